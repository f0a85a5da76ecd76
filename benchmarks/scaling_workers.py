"""A rollout worker as a process: newest weights, units for its free places, decode, deliver; and how it fails."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from scaling_model import Array, Cluster, Rates, Work, chains, decoded, decoding, entering
from scaling_outcome import Span

Waiting = Generator[Any, Any, None]
"""A process, as SimPy has them: a generator of the events that it waits for."""


@dataclass(order=True)
class Unit:
    """Answers that are sampled together. `places` are the tokens of each place of the batch, `end` the iteration of its
    worker with which it is whole; `life` counts the returns to a checkpoint before the unit was opened.
    """

    step: int
    number: int
    life: int
    lengths: Array = field(compare=False)
    places: Array = field(compare=False)
    version: int | None = field(default=None, compare=False)
    end: float = field(default=0.0, compare=False)


def unit(step: int, number: int, life: int, lengths: Array, cluster: Cluster, rates: Rates) -> Unit:
    """A unit that nobody has begun."""
    return Unit(step, number, life, lengths, chains(lengths, max(1, rates.rows // cluster.at_once)))


class Plant(Protocol):
    """Where workers work."""

    env: Any
    queue: Any
    work: Work
    cluster: Cluster
    rates: Rates
    version: int
    life: int
    cores: Any

    def compute(self, seconds: float) -> Waiting:
        """Take a device for so long."""
        ...

    def arrive(self, unit: Unit) -> None:
        """A unit is whole."""
        ...


class Worker:
    """Samples units, `cluster.at_once` of them at a time, of which each keeps the version that it began with."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.units: list[Unit] = []
        self.iterations = 0.0
        self.ends: Array = np.empty(0)
        self.call: Any = None
        self.version = 0
        self.up = True
        self.spans: list[Span] = []

    def life(self, interrupt: type[BaseException]) -> Waiting:
        """The process: for ever, through failures."""
        while True:
            try:
                yield from self._round()
            except interrupt:
                self._give_back()
                self.up = False
                yield self.plant.env.timeout(self.plant.rates.replace)
                self.up, self.version = True, -1

    def _round(self) -> Waiting:
        """Wait for work where there is none, fill the free places, decode until a unit is whole or another comes."""
        if not self.units:
            self.iterations, self.ends = 0.0, np.empty(0)
            yield from self._take()
        began = self.plant.env.now
        while len(self.units) < self._fair() and self.plant.queue.items:
            yield from self._take()
        yield from self._begin()
        yield from self._decode()
        self.spans.append((began, self.plant.env.now))

    def _take(self) -> Waiting:
        self.call = self.plant.queue.get()
        taken = yield self.call
        self.call = None
        self.units.append(taken)

    def _fair(self) -> int:
        """Units that it holds: no more than its share of those that wait."""
        share = -(-(len(self.plant.queue.items) + len(self.units)) // self.plant.cluster.rollouts)
        return min(self.plant.cluster.at_once, max(share, 1))

    def _begin(self) -> Waiting:
        """Newest weights, then the prompts of the units that are new."""
        if self.version != self.plant.version:
            self.version = self.plant.version
            if self.plant.cluster.overlap:  # else the controller has waited for it
                yield self.plant.env.timeout(self.plant.rates.load)
        new = [each for each in self.units if each.version is None]
        for each in new:
            each.version, each.end = self.version, self.iterations + float(each.places.max())
        going = self.ends[self.ends > self.iterations]
        self.ends = np.concatenate([going, *(self.iterations + each.places for each in new)])
        yield from self.plant.compute(sum(entering(each.lengths, self.plant.work, self.plant.rates) for each in new))

    def _decode(self) -> Waiting:
        if self.plant.cluster.at_once > 1:
            yield from self._decode_some()
            return
        (alone,) = self.units
        yield from self.plant.compute(decoded(alone.places, self.plant.rates))
        self.units = []
        self.plant.arrive(alone)

    def _decode_some(self) -> Waiting:
        """Until the first of its units is whole, or another one comes."""
        began, first = self.plant.env.now, min(each.end for each in self.units)
        left = self.ends[self.ends > self.iterations] - self.iterations
        seconds = decoded(np.minimum(left, first - self.iterations), self.plant.rates)
        if len(self.units) < self.plant.cluster.at_once:
            yield from self._listen(seconds)
        else:
            yield from self.plant.compute(seconds)
        passed = self.plant.env.now - began
        if passed < seconds * (1 - 1e-9):
            self.iterations += float(np.interp(passed, *decoding(left, self.plant.rates)[::-1]))
            return
        self.iterations = first
        for each in [each for each in self.units if each.version is not None and each.end <= first]:
            self.units.remove(each)
            self.plant.arrive(each)

    def _listen(self, seconds: float) -> Waiting:
        """Until then, or until another unit comes."""
        self.call = self.plant.queue.get()
        yield self.call | self.plant.env.timeout(seconds)
        call, self.call = self.call, None
        if call.triggered:
            self.units.append(call.value)
        else:
            call.cancel()

    def _give_back(self) -> None:
        """What it held is sampled by others, from the start."""
        plant = self.plant
        if self.call is not None and self.call.triggered:
            self.units.append(self.call.value)
        elif self.call is not None:
            self.call.cancel()
        for each in (each for each in self.units if each.life == plant.life):
            plant.queue.put(unit(each.step, each.number, each.life, each.lengths, plant.cluster, plant.rates))
        self.units, self.call = [], None
