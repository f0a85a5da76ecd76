"""Training without padding: all tokens of a batch side by side, each prompt once for its whole group.

The linear layers see [1, m] tokens, m the prompts' tokens once a group plus the answers' tokens. Attention alone needs
to know which token belongs to which row: it is told by a `Layout`, through transformers' attention interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from scoreline.models.sharing import Prefill, Step, attend_prompts, attend_step
from scoreline.types import Batch

NAME = "scoreline"
"""Under which transformers knows `attend`. Without a layout it is the library's own sdpa."""


@dataclass(frozen=True)
class Layout:
    """Where each token of a packed batch belongs. Axis m: packed tokens; q: distinct prompts; p, t: their padded rows.

    `prompt` [q, p] and `answer` [n, t] are places in the packed tokens (0 where there is none); `home` [m] are places
    in the two of them laid end to end; `asked` [n] is the prompt of each answer; `mask` [n, 1, t, p + t] says what an
    answer's token may attend to; `states` [n, t + 1] are the places of s_0 .. s_t.
    """

    tokens: Int[Tensor, " m"]
    positions: Int[Tensor, " m"]
    prompt: Int[Tensor, "q p"]
    answer: Int[Tensor, "n t"]
    home: Int[Tensor, " m"]
    asked: Int[Tensor, " n"]
    mask: Bool[Tensor, "n 1 t l"]
    states: Int[Tensor, "n s"]


def lay_out(batch: Batch) -> Layout:
    """The packed form of a batch. Rows of one group answer the same prompt, which is laid out once."""
    device = batch.length.device
    _, asked = batch.group.unique(return_inverse=True)
    n, width, budget = len(batch), batch.prompts.shape[1], batch.completions.shape[1]
    first = torch.full((int(asked.max()) + 1,), n, device=device).scatter_reduce(
        0, asked, torch.arange(n, device=device), "amin"
    )
    lengths, place = batch.prompt_length[first], torch.arange(width, device=device)
    there = place[None] < lengths[:, None]  # prompts padded on the right: causal attention then needs no mask
    shifted = (place[None] + width - lengths[:, None]).clamp(max=width - 1)
    written = torch.arange(budget, device=device)[None] < batch.length[:, None]
    present = torch.cat([there.flatten(), written.flatten()])
    home = present.nonzero().squeeze(1)
    packed = (present.cumsum(0) - 1).clamp(min=0) * present
    prompt, answer = packed[: there.numel()].view_as(there), packed[there.numel() :].view_as(written)
    tokens = torch.cat([batch.prompts[first].gather(1, shifted).flatten(), batch.completions.flatten()])
    counted = batch.prompt_length[:, None] + torch.arange(budget, device=device)[None]
    positions = torch.cat([place.expand_as(there).flatten(), counted.flatten()])
    causal = torch.ones(budget, budget, dtype=torch.bool, device=device).tril()
    mask = torch.cat([there[asked][:, None].expand(-1, budget, -1), causal.expand(n, -1, -1)], 2)
    last = prompt[asked].gather(1, batch.prompt_length[:, None] - 1)
    states = torch.cat([last, answer], 1)
    return Layout(tokens[home], positions[home], prompt, answer, home, asked, mask[:, None], states)


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
    repeats = query.shape[1] // key.shape[1]
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [m, h, e]
    k, v = (x.repeat_interleave(repeats, 1) if repeats > 1 else x for x in (k, v))
    asked_q, asked_k, asked_v = (rows(x, layout.prompt) for x in (q, k, v))
    told_q, told_k, told_v = (rows(x, layout.answer) for x in (q, k, v))
    seen_k, seen_v = (torch.cat([x[layout.asked], y], 2) for x, y in ((asked_k, told_k), (asked_v, told_v)))
    prompts = scaled_dot_product_attention(asked_q, asked_k, asked_v, is_causal=True, scale=scaling)
    answers = scaled_dot_product_attention(told_q, seen_k, seen_v, attn_mask=layout.mask, scale=scaling)
    spread = torch.cat([x.transpose(1, 2).flatten(0, 1) for x in (prompts, answers)])
    return spread.index_select(0, layout.home)[None], None


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
    if not same_packed(model.base_model):
        model.set_attn_implementation(before)
        return False
    return True


@torch.no_grad()
def same_packed(trunk: Any) -> bool:
    """Two answers to one short prompt and one to another, packed against one by one."""
    batch = probe(trunk.device)
    try:
        packed = packed_states(trunk, batch)
    except TypeError:  # an architecture that does not hand keyword arguments on to its attention
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
