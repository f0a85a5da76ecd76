"""How much of a batch goes through the model at once. The loss is a plain sum, so the cut does not change it.

A cut into portions B_1 .. B_k:  grad L(B) = grad L(B_1) + .. + grad L(B_k), equal up to the rounding of that sum.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor

from scoreline.errors import MemoryLimitError
from scoreline.models.footprint import Footprint
from scoreline.models.memory import GIB, available, out_of_memory, release
from scoreline.train.ranks import ALONE, Ranks
from scoreline.types import Batch

T = TypeVar("T")
FILE = "portion.json"

ENOUGH = {"cpu": 1 << 11, "mps": 1 << 12, "cuda": 1 << 15}
"""Tokens at once beyond which a device computes no faster: the matrices are large enough to keep it busy."""
CPU_SHARE = GIB
"""Bytes of activations at once beyond which a CPU computes no faster: new pages cost as much as the calls they save."""
SAFE = 0.6
"""The share of free memory that activations may take, by estimate."""


@dataclass(frozen=True)
class Portion:
    """At most `size` rows, or rows of at most `size` tokens together; one row always goes, however long it is."""

    size: int
    unit: Literal["rows", "tokens"] = "rows"

    def cut(self, costs: Sequence[Row], *, packed: bool) -> list[int]:
        """How many rows each portion has, in the order of the rows."""
        counts, begun = [0] if costs else [], 0
        for end in range(1, len(costs) + 1):
            if counts[-1] and self.cost(costs[begun:end], packed=packed) > self.size:
                begun = end - 1
                counts.append(0)
            counts[-1] += 1
        return counts

    def cost(self, rows: Sequence[Row], *, packed: bool) -> int:
        """Rows; or the tokens computed: packed rows share their prompt, padded ones are as long as the longest."""
        if self.unit == "rows":
            return len(rows)
        if packed:
            return sum(row.answer for row in rows) + sum({row.group: row.prompt for row in rows}.values())
        return len(rows) * (max(row.prompt for row in rows) + max(row.answer for row in rows))


@dataclass(frozen=True)
class Row:
    """Tokens of a row's prompt and of its answer, and the question that it answers."""

    prompt: int
    answer: int
    group: int


class Portions:
    """The cut of a learner's batches: the portion that was asked for, lowered for good whenever memory runs out.

    A lowered portion is the one that the same batch would have been given had the run begun with that number, so an
    update that was tried again is, bit by bit, the update of an undisturbed run with the lower number.
    """

    def __init__(
        self,
        asked: int | Literal["auto"],
        *,
        packed: bool,
        device: torch.device,
        models: Models,
        ranks: Ranks = ALONE,
    ) -> None:
        self.asked, self.packed, self.device, self.models, self.ranks = asked, packed, device, models, ranks
        self.portion = None if asked == "auto" else Portion(asked)
        self.largest = 0
        """Rows of the largest portion of the last cut."""

    def cut(self, batch: Batch) -> Iterator[Tensor]:
        """The rows of each portion. Packed rows stay in order: a group's prompt is computed once where it fits.

        All ranks have the same portion, the smallest that one of them chose.
        """
        if self.portion is None:
            chosen = automatic(self.models, self.device)
            self.portion = replace(chosen, size=-self.ranks.most(-chosen.size))
        portions = cut(batch, self.portion, packed=self.packed)
        self.largest = max(map(len, portions), default=0)
        return iter(portions)

    def retried(self, work: Callable[[], T], batch: Batch) -> T:
        """What `work` returns, done again from its beginning with half the portion as often as memory runs out.

        One of several ranks cannot begin again alone, in the middle of sums with the others: there it is an error.
        """
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                if self.ranks.world > 1:
                    raise too_large_together(batch, reason, self.ranks, self.portion) from error
            release(self.device)  # here the failed try's tensors are free: the error held on to them
            self._lower(batch, reason)

    def save(self, folder: Path) -> None:
        """The portion, so that a resumed run adds up in the same order."""
        if self.portion is not None:
            (folder / FILE).write_text(json.dumps({"asked": self.asked, **asdict(self.portion)}), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """What `save` wrote, unless the recipe now asks for something else."""
        if (folder / FILE).is_file():
            saved = json.loads((folder / FILE).read_text(encoding="utf-8"))
            if saved.pop("asked") == self.asked:
                self.portion = Portion(**saved)

    def _lower(self, batch: Batch, reason: str) -> None:
        assert self.portion is not None
        tried = rows_of(batch, torch.arange(len(batch)))
        counts = list(self.cut(batch))
        if max(map(len, counts)) == 1:
            raise too_large(batch, reason)
        most = max(self.portion.cost([tried[i] for i in rows.tolist()], packed=self.packed) for rows in counts)
        self.portion = Portion(max(1, min(self.portion.size, most) // 2), self.portion.unit)
        unit, size = self.portion.unit, self.portion.size
        warnings.warn(f"memory ran out with {most:,} {unit} at once; going on with {size:,}: {reason}", stacklevel=2)


def cut(batch: Batch, portion: Portion, *, packed: bool) -> list[Tensor]:
    """The rows of each portion of a batch: in order where rows are packed, else those alike in length together."""
    order = torch.arange(len(batch), device=batch.length.device)
    if not packed:
        order = (batch.prompt_length + batch.length).argsort(stable=True)
    return list(order.split(portion.cut(rows_of(batch, order), packed=packed)))


def rows_of(batch: Batch, order: Tensor) -> list[Row]:
    """What portions know of some rows."""
    columns = (batch.prompt_length, batch.length, batch.group)
    return [Row(*row) for row in zip(*(column[order].tolist() for column in columns), strict=True)]


@dataclass(frozen=True)
class Models:
    """What takes part in a backward pass, and what it still has to allocate in the first one."""

    learning: tuple[Footprint, ...]
    pending: Callable[[], int]
    """Bytes of gradients and optimiser state that do not exist yet."""


def automatic(models: Models, device: torch.device) -> Portion:
    """The largest power of two of tokens that is useful and fits: activations(m) + logits(m) <= room, m <= ENOUGH.

    Room is a share of the free memory, on a CPU at most `CPU_SHARE`. A power of two, because free memory is never
    twice the same: the same run twice should be cut alike.
    """
    free = available(device)
    room = math.inf if free is None else SAFE * max(free - models.pending(), 0)
    room = min(room, CPU_SHARE) if device.type == "cpu" else room
    tokens = ENOUGH[device.type]
    while tokens > 1 and sum(m.activations(tokens) + m.logits(tokens) for m in models.learning) > room:
        tokens //= 2
    return Portion(tokens, "tokens")


def too_large_together(batch: Batch, reason: str, ranks: Ranks, portion: Portion | None) -> MemoryLimitError:
    """A rank's portion does not fit."""
    tried = "" if portion is None else f"portions of at most {portion.size:,} {portion.unit}, "
    return MemoryLimitError(
        f"Memory ran out on learner rank {ranks.rank} of {ranks.world}, and one rank cannot try again with less.",
        got=f"{len(batch)} answers of a minibatch, {tried}{reason}",
        accepted="portions that fit on every rank",
        todo="set train.micro_batch_size to a number, half of the answers above or less, or have more learners; "
        "--resume goes on from the last checkpoint.",
    )


def too_large(batch: Batch, reason: str) -> MemoryLimitError:
    """One row alone does not fit."""
    longest = int((batch.prompt_length + batch.length).max())
    return MemoryLimitError(
        "Memory ran out with one answer at a time: the update cannot be cut any smaller.",
        got=f"answers of up to {longest:,} tokens with their prompt; {reason}",
        accepted="a step that `scoreline train RECIPE --dry-run` says will fit",
        todo="set model.gradient_checkpointing = true, lower sampling.max_completion_length, set "
        'model.precision = "bf16", train adapters (LoRA) instead of all weights, or choose a smaller model; '
        "--resume goes on from the last checkpoint.",
    )
