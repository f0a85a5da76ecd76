"""Decoding of many answers token by token. Prompts are computed once; answers leave when they end, and others enter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from scoreline.models.fallback import CachedDecoder, WholeDecoder, caches
from scoreline.models.policy import Policy
from scoreline.models.sharing import Held, Prefill, Step, seated, visible, widened

ROOM = 64
"""Tokens by which the room for answers grows: what is masked in it is computed all the same."""
COPIED = 128
"""Prompts of up to so many tokens are copied to each of their answers; longer ones are shared."""
PREFILL_TOKENS = 8192
"""Prompt tokens, padding included, that go through the model at once."""


class Decoder(Protocol):
    """Answers in flight, n of them. `logits` [n, v] are those of the next token of each."""

    logits: Float[Tensor, "n v"]

    @property
    def open(self) -> bool:
        """Whether more answers may enter now."""
        ...

    def admit(self, prompts: Sequence[tuple[int, ...]]) -> None:
        """Begin an answer to each of these prompts, which may repeat, behind the answers in flight."""
        ...

    def pick(self, rows: Int[Tensor, " m"]) -> None:
        """Go on with these answers alone."""
        ...

    def step(self, tokens: Int[Tensor, " n"]) -> None:
        """Append one token to every answer and compute the next logits."""
        ...

    def renew(self) -> None:
        """The weights are others now. What is in flight keeps its keys and values; who enters shares none of them."""
        ...

    def close(self) -> None:
        """Free what the model holds for it."""
        ...


def make_decoder(policy: Policy, budget: int, widest: int) -> Decoder:
    """The decoder with shared prompts where the model allows it, the library's own cache elsewhere, or none at all.

    `budget` and `widest` are the most tokens that an answer and a prompt have.
    """
    if policy.packs:
        return SharedDecoder(policy, budget, widest)
    return CachedDecoder(policy) if caches(policy) else WholeDecoder(policy)


class SharedDecoder:
    """Each distinct prompt has a seat: its keys and values, read by all of its answers. Axis q: seats.

    Short prompts are computed once too, but each answer then has a copy: one product with all of its keys costs less
    than two. Where layers are compiled, shapes are rounded up, so that few of them are ever seen: rows that nobody
    asked for are computed along, behind the `count` answers in flight.
    """

    def __init__(self, policy: Policy, budget: int, widest: int) -> None:
        self.policy, device = policy, policy.device
        self.copies, self.compiled = widest <= COPIED, policy.compiled
        self.least = widest if self.copies else 0
        self.limit = self.least + budget  # tokens of an answer's own room, with its copy of the prompt
        self.seats: dict[tuple[int, ...], int] = {}
        self.held: dict[nn.Module, Held] = {}
        self.last = torch.empty(0, device=device)  # [q, d] the state that each prompt's first answer token comes from
        self.asked, self.seat, self.written = (torch.zeros(0, dtype=torch.long, device=device) for _ in range(3))
        self.count = self.longest = self.most = 0
        self.logits = torch.empty(0, policy.vocabulary, device=device)
        self.unused = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device)  # a mask that nothing reads

    @property
    def open(self) -> bool:
        """Always: answers are independent of one another."""
        return True

    def admit(self, prompts: Sequence[tuple[int, ...]]) -> None:
        """Prompts that have no seat yet are computed; their answers start with nothing of their own."""
        self._take(torch.arange(self.count, device=self.policy.device))
        self._vacate()
        for chunk in chunks([prompt for prompt in dict.fromkeys(prompts) if prompt not in self.seats]):
            self._prefill(chunk)
        seat = torch.tensor([self.seats[prompt] for prompt in prompts], device=self.policy.device)
        written = self.asked[seat] if self.copies else torch.zeros_like(seat)
        self.seat, self.written = torch.cat([self.seat, seat]), torch.cat([self.written, written])
        for held in self.held.values():
            held.keys = stacked(held.keys, held.prompt_keys, seat, copied=self.copies)
            held.values = stacked(held.values, held.prompt_values, seat, copied=self.copies)
        self.logits = torch.cat([self.logits, self.policy.logits(self.last)[seat]])
        self.most = 0
        self.pick(torch.arange(len(self.seat), device=seat.device))

    def pick(self, rows: Int[Tensor, " m"]) -> None:
        """The others' keys and values are dropped."""
        self.count, self.logits = len(rows), self.logits[rows]
        short = self._size(len(rows)) - len(rows)
        self._take(torch.cat([rows, rows[:1].expand(short)]))
        if self.count:
            self._arrange()

    def step(self, tokens: Int[Tensor, " n"]) -> None:
        """One forward pass of one token an answer. One that has its budget and has not left stays there."""
        if self.longest == self.room < self.limit:
            self._widen(self._roomy(self.room))
        written = self.written.clamp(max=self.limit - 1)
        told, positions = Step(self.rows, written, visible(written + 1, self.room)), written
        if not self.copies:
            bias, positions = torch.cat([self.seen, told.bias], -1), written + self.asked[self.seat]
            told = told._replace(bias=bias, members=self.members, home=self.home)
        tokens = pad(tokens, (0, len(self.seat) - self.count))
        with self._compiling():
            states = self._forward(tokens[:, None], positions[:, None], told)
        self.logits = self.policy.logits(states[: self.count, 0])
        self.written, self.longest = written + 1, min(self.longest + 1, self.limit)

    def renew(self) -> None:
        """Prompts keep their seats for the answers in flight, under names that nobody asks for."""
        self.seats = {(-1, *prompt): seat for prompt, seat in self.seats.items()}

    def close(self) -> None:
        """The model's modules forget the keys and values."""
        for module in self.held:
            del module.held
        self.held = {}

    @property
    def room(self) -> int:
        """Tokens of an answer that there is memory for."""
        return next(iter(self.held.values())).keys.shape[2]

    def _forward(self, tokens: Tensor, positions: Tensor, told: Prefill | Step) -> Tensor:
        out = self.policy.model.base_model(
            input_ids=tokens, position_ids=positions, attention_mask=self.unused, use_cache=False, layout=told
        )
        states: Tensor = out.last_hidden_state
        return states

    def _prefill(self, prompts: Sequence[tuple[int, ...]]) -> None:
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.policy.device)
        width, prefill = int(lengths.max()), Prefill({})
        tokens = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=lengths.device)
        positions = torch.arange(width, device=lengths.device)[None].expand_as(tokens)
        states = self._forward(tokens, positions, prefill)
        last = states[torch.arange(len(prompts), device=lengths.device), lengths - 1]
        self.seats |= {prompt: len(self.seats) + i for i, prompt in enumerate(prompts)}
        self.last = torch.cat([self.last, last]) if len(self.last) else last
        self.asked = torch.cat([self.asked, lengths])
        for module, (keys, values) in prefill.kept.items():
            self._hold(module, keys, values)

    def _hold(self, module: Any, keys: Tensor, values: Tensor) -> None:
        held = self.held.get(module)
        if held is None:
            room = self._roomy(self.least)
            own = (x.new_zeros(len(self.seat), x.shape[1], room, x.shape[3]) for x in (keys, values))
            module.held = self.held[module] = Held(keys[:0], values[:0], *own)
            held = self.held[module]
        width = max(keys.shape[2], held.prompt_keys.shape[2])
        width = stepped(width) if self.compiled is not None else width
        held.prompt_keys = torch.cat([widened(held.prompt_keys, width), widened(keys, width)])
        held.prompt_values = torch.cat([widened(held.prompt_values, width), widened(values, width)])

    def _roomy(self, count: int) -> int:
        """Room for `count` tokens and some more."""
        return min(count + ROOM, self.limit) if self.compiled is None else stepped(count + 1)

    def _widen(self, room: int) -> None:
        for held in self.held.values():
            held.keys, held.values = widened(held.keys, room), widened(held.values, room)

    def _take(self, rows: Tensor) -> None:
        if len(rows) == len(self.seat) and bool((rows == torch.arange(len(rows), device=rows.device)).all()):
            return
        self.seat, self.written = self.seat[rows], self.written[rows]
        for held in self.held.values():
            held.keys, held.values = held.keys[rows], held.values[rows]

    def _vacate(self) -> None:
        """Prompts without an answer left give up their seats; so do those of which each answer has a copy."""
        kept, self.seat = (self.seat[:0], self.seat * 0) if self.copies else self.seat.unique(return_inverse=True)
        order = {old: new for new, old in enumerate(kept.tolist())}
        self.seats = {prompt: order[seat] for prompt, seat in self.seats.items() if seat in order}
        self.asked, self.last = self.asked[kept], self.last[kept]
        for held in self.held.values():
            held.prompt_keys, held.prompt_values = held.prompt_keys[kept], held.prompt_values[kept]

    def _arrange(self) -> None:
        self.rows = torch.arange(len(self.seat), device=self.seat.device)
        self.longest = int(self.written.max())
        if self.copies:
            return
        seats, self.most = self._size(len(self.seats)), max(self.most, int(self.seat.bincount().max()))
        self.members, self.home = seated(self.seat, seats, self._size(self.most))
        for held in self.held.values():
            held.prompt_keys, held.prompt_values = (grown(x, seats) for x in (held.prompt_keys, held.prompt_values))
        self.seen = visible(self.asked[self.seat], next(iter(self.held.values())).prompt_keys.shape[2])

    def _size(self, count: int) -> int:
        return count if self.compiled is None or not count else 1 << (count - 1).bit_length()

    def _compiling(self) -> AbstractContextManager[None]:
        return nullcontext() if self.compiled is None else self.compiled.on()


def chunks(prompts: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """The prompts in order, in parts of at most `PREFILL_TOKENS` padded tokens."""
    part: list[tuple[int, ...]] = []
    for prompt in prompts:
        if part and (len(part) + 1) * max(map(len, [*part, prompt])) > PREFILL_TOKENS:
            yield part
            part = []
        part.append(prompt)
    if part:
        yield part


def stacked(x: Tensor, prompts: Tensor, seat: Int[Tensor, " a"], *, copied: bool) -> Float[Tensor, "m k t e"]:
    """A row more for each seat, in the same room: a copy of its prompt's, or empty."""
    return torch.cat([x, widened(prompts[seat], x.shape[2])]) if copied else grown(x, len(x) + len(seat))


def stepped(count: int) -> int:
    """Room where layers are compiled: a multiple of `ROOM`, so that graphs are few and little in them is masked."""
    return -(-count // ROOM) * ROOM


def grown(x: Float[Tensor, "n k t e"], rows: int) -> Float[Tensor, "m k t e"]:
    """Zeros for the rows that enter."""
    return torch.cat([x, x.new_zeros(rows - len(x), *x.shape[1:])])
