"""Training without padding: all tokens of a batch side by side, each prompt once for its whole group.

The linear layers see [1, m] tokens, m the prompts' tokens once a group plus the answers' tokens. Attention alone needs
to know which token belongs to which row: it is told by a `Layout`, through transformers' attention interface.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from scoreline.errors import ModelError
from scoreline.models.gradients import compute_dtype
from scoreline.models.grouped import grouped_attention
from scoreline.models.layout import Layout, lay_out
from scoreline.models.making import confirmed
from scoreline.models.sharing import Prefill, Step, attend_prompts, attend_step
from scoreline.types import Batch

NAME = "scoreline"
"""Under which transformers knows `attend`. Without a layout it is the library's own sdpa."""

SCORES = 1 << 25
"""Scores of one answer to each prompt, above which a CPU uses the library's blockwise kernel: 128 MiB."""

SLICE = 1 << 18
"""Scores that are made at once, where that is more than one answer to each prompt: 1 MiB."""


def packed_states(trunk: Any, batch: Batch) -> Float[Tensor, "n s d"]:
    """The hidden states s_0 .. s_t of every answer: [n, t + 1, d]; what stands behind an answer's end means nothing."""
    layout = lay_out(batch)
    unused = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=layout.tokens.device)  # no mask over all pairs is made
    out = trunk(
        input_ids=layout.tokens[None],
        position_ids=layout.positions[None],
        attention_mask=unused,
        use_cache=False,
        layout=layout,
    )
    states: Tensor = out.last_hidden_state[0].index_select(0, layout.states.flatten())
    return states.view(*layout.states.shape, -1)


def answer_states(trunk: Any, batch: Batch, *, packed: bool) -> Float[Tensor, "n s d"]:
    """Hidden states at the last prompt token and at every answer token: [n, t + 1, d]."""
    if packed:
        return packed_states(trunk, batch)
    prompt_width = batch.prompts.shape[1]
    present = token_mask(batch)
    positions = (present.long().cumsum(1) - 1).clamp(min=0)
    tokens = torch.cat([batch.prompts, batch.completions], 1)
    padded = None if bool(present.all()) else present.long()
    out = trunk(input_ids=tokens, attention_mask=padded, position_ids=positions, use_cache=False)
    states: Tensor = out.last_hidden_state[:, prompt_width - 1 :]
    return states


def token_mask(batch: Batch) -> Bool[Tensor, "n l"]:
    """Which positions of [prompt | completion] hold a token: prompts are padded on the left, answers on the right."""
    width, budget = batch.prompts.shape[1], batch.completions.shape[1]
    place = torch.arange(width, device=batch.length.device)
    left = place[None] >= (width - batch.prompt_length)[:, None]
    right = torch.arange(budget, device=batch.length.device)[None] < batch.length[:, None]
    return torch.cat([left, right], 1)


def attend(
    module: torch.nn.Module,
    query: Float[Tensor, "b h l e"],
    key: Float[Tensor, "b k l e"],
    value: Float[Tensor, "b k l e"],
    attention_mask: Tensor | None,
    layout: Layout | Prefill | Step | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention over packed tokens: prompts to themselves, answers to their prompt and to themselves."""
    if isinstance(layout, Step):
        return attend_step(module, query, key, value, layout, scaling)
    if isinstance(layout, Prefill):
        return attend_prompts(module, query, key, value, layout, scaling)
    if layout is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return plain
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = (x[0].transpose(0, 1).to(compute_dtype(value)) for x in (query, key, value))  # [m, h, e]
    form = shared_products if q.device.type == "cpu" and seat_scores(q, layout) <= SCORES else repeated_rows
    return form(q, k, v, layout, scale).index_select(0, layout.home)[None], None


def shared_products(
    q: Float[Tensor, "m h e"], k: Float[Tensor, "m c e"], v: Float[Tensor, "m c e"], layout: Layout, scale: float
) -> Float[Tensor, "x h e"]:
    """Products in which prompts and keys are read where they are: [q p + a t, h, e], prompts' tokens first."""
    questions, shared = len(layout.prompt), k.shape[1]
    repeats = q.shape[1] // shared

    def queries(places: Tensor) -> Tensor:
        each = q.index_select(0, places.flatten()).view(questions, -1, places.shape[1], shared, repeats, q.shape[2])
        return each.permute(0, 3, 1, 4, 2, 5)

    def blocks(x: Tensor, places: Tensor) -> Tensor:
        each = x.index_select(0, places.flatten()).view(questions, -1, places.shape[1], shared, x.shape[2])
        return each.permute(0, 3, 1, 2, 4).flatten(0, 2)

    def spread(out: Tensor) -> Tensor:
        return out.permute(0, 2, 4, 1, 3, 5).reshape(-1, q.shape[1], v.shape[2])

    asked_k, asked_v = blocks(k, layout.prompt), blocks(v, layout.prompt)
    prompts = grouped_attention(queries(layout.prompt), [asked_k], [asked_v], layout.causal, scale)
    answers = []
    for places in layout.answer.view(questions, -1, layout.answer.shape[1]).split(seats_at_once(q, layout), 1):
        part = places.flatten(0, 1)
        seen = ([asked_k, blocks(k, part)], [asked_v, blocks(v, part)])
        answers.append(grouped_attention(queries(part), *seen, layout.bias, scale))
    return torch.cat([spread(prompts), spread(torch.cat(answers, 2))])


def seat_scores(q: Float[Tensor, "m h e"], layout: Layout) -> int:
    """Attention scores of one answer to each prompt."""
    return len(layout.prompt) * q.shape[1] * layout.bias.shape[-2] * layout.bias.shape[-1]


def seats_at_once(q: Float[Tensor, "m h e"], layout: Layout) -> int:
    """Answers to each prompt whose scores are made at once."""
    return max(1, SLICE // seat_scores(q, layout))


def repeated_rows(
    q: Float[Tensor, "m h e"], k: Float[Tensor, "m c e"], v: Float[Tensor, "m c e"], layout: Layout, scale: float
) -> Float[Tensor, "x h e"]:
    """The same by the device's fused attention, which wants each answer's prompt beside it and every head's keys."""
    repeats = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, 1) if repeats > 1 else x for x in (k, v))
    asked_q, asked_k, asked_v = (rows(x, layout.prompt) for x in (q, k, v))
    told_q, told_k, told_v = (rows(x, layout.answer) for x in (q, k, v))
    asked = layout.asked
    seen_k, seen_v = (torch.cat([x[asked], y], 2) for x, y in ((asked_k, told_k), (asked_v, told_v)))
    mask = layout.bias[asked, 0, 0].to(q.dtype)
    prompts = scaled_dot_product_attention(asked_q, asked_k, asked_v, is_causal=True, scale=scale)
    answers = scaled_dot_product_attention(told_q, seen_k, seen_v, attn_mask=mask, scale=scale)
    return torch.cat([x.transpose(1, 2).flatten(0, 1) for x in (prompts, answers)])


def rows(x: Float[Tensor, "m h e"], places: Int[Tensor, "n t"]) -> Float[Tensor, "n h t e"]:
    """Packed tokens as padded rows."""
    return x.index_select(0, places.flatten()).view(*places.shape, *x.shape[1:]).transpose(1, 2)


def plain_attention(model: Any) -> bool:
    """Whether every layer is full causal attention under sdpa: no window, no linear attention, no score caps."""
    layers = DynamicCache(config=model.config).layers
    config = model.config.get_text_config()
    usual = config._attn_implementation in ("sdpa", NAME) and not getattr(config, "attn_logit_softcapping", None)
    return bool(layers) and usual and all(type(layer) is DynamicLayer for layer in layers)


def allow_packing(model: Any) -> bool:
    """Switch a model's attention to `attend` if it then gives the same states packed and padded; else leave it."""
    if not plain_attention(model):
        return False
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    if not confirmed(f"{type(model).__name__} packed", partial(same_packed, model.base_model)):
        model.set_attn_implementation(before)
        return False
    return True


def check_padded(model: Any) -> None:
    """Raise `ModelError` for a model whose states of padded rows are not those of rows alone."""
    padded = partial(same_alone, model.base_model, partial(answer_states, packed=False))
    if not confirmed(f"{type(model).__name__} padded", padded):
        raise ModelError(
            "This architecture computes other states for a row among padded ones, so a batch would teach it wrongly.",
            got=type(model).__name__,
            accepted="models that heed position_ids and attention_mask",
            todo="choose another model.",
        )


def same_packed(trunk: Any) -> bool:
    """Whether the states of packed rows are those of rows alone."""
    return same_alone(trunk, packed_states)


@torch.no_grad()
def same_alone(trunk: Any, together: Callable[[Any, Batch], Tensor]) -> bool:
    """Two answers to one short prompt and one to another, computed together against one by one."""
    batch = probe(trunk.device)
    try:
        packed = together(trunk, batch)
    except TypeError:  # an architecture that takes no positions, or does not hand keyword arguments on to its attention
        return False
    for i in range(len(batch)):
        ids = torch.cat(
            [batch.prompts[i, -int(batch.prompt_length[i]) :], batch.completions[i, : int(batch.length[i])]]
        )
        alone = trunk(input_ids=ids[None], use_cache=False).last_hidden_state[0, int(batch.prompt_length[i]) - 1 :]
        if not torch.allclose(packed[i, : len(alone)].float(), alone.float(), atol=1e-2, rtol=1e-2):
            return False
    return True


def probe(device: torch.device) -> Batch:
    """Three short rows with the first tokens of any vocabulary."""
    columns = {
        "prompts": torch.tensor([[0, 1, 2], [0, 1, 2], [0, 3, 1]]),
        "prompt_length": torch.tensor([3, 3, 2]),
        "completions": torch.tensor([[1, 2, 0], [3, 1, 2], [2, 0, 0]]),
        "length": torch.tensor([2, 3, 1]),
        "group": torch.tensor([0, 0, 1]),
    }
    shape = torch.zeros(3, 3, device=device)
    flat = torch.zeros(3, dtype=torch.bool, device=device)
    return Batch(
        **{name: column.to(device) for name, column in columns.items()},
        mask=shape.bool(),
        rewards=shape,
        rewarded=shape.bool(),
        truncated=flat,
        logp_sampler=shape,
    )


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
