"""A run as processes that wait for one another, by SimPy: `simulate(work, cluster, rates)`.

    controller   open steps up to version + S -> wait for all units of the step -> score -> learn -> publish -> ...
    worker       newest weights -> a unit -> deliver it -> ...
    accidents    a worker: its units go back to the queue; a learner: all go back to the last checkpoint

Steps take their units in the order of the data. A step's staleness is the learner's version less the unit's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scaling_learning import Phase, controlling, delivering, learning, publishing
from scaling_model import Array, Cluster, Rates, Work, fastest
from scaling_outcome import Outcome, Step, outcome
from scaling_workers import Unit, Waiting, Worker, unit

from scoreline.errors import ConfigError

try:
    import simpy
except ImportError:  # told in words, by whoever wants to simulate
    simpy = None  # type: ignore[assignment]

SLICE = 0.01
"""Seconds after which a process on a shared core lets the next one have it."""


class Simulation:
    """One run: `steps` steps that count, behind `warm` that do not."""

    def __init__(self, work: Work, cluster: Cluster, rates: Rates, *, steps: int, warm: int, seed: int) -> None:
        if simpy is None:
            raise ConfigError("SimPy is not installed, and it is what simulates.", todo="pip install 'scoreline[dev]'")
        self.work, self.cluster, self.rates, self.seed = work, cluster, rates, seed
        self.warm, self.last = warm, warm + steps
        self.env: Any = simpy.Environment()
        self.queue: Any = simpy.PriorityStore(self.env)
        self.cores: Any = None if cluster.cores is None else simpy.Resource(self.env, cluster.cores)
        self.random = np.random.default_rng([seed, 2**31])
        self.version = self.opened = self.learned = self.saved = self.life = self.lost = self.failures = 0
        self.up = True
        self.arrived: dict[int, list[int]] = {}
        self.missing: dict[int, int] = {}
        self.lengths: dict[int, Array] = {}
        self.whole: dict[int, Any] = {}
        self.records: dict[int, Step] = {}
        self.workers = [Worker(self) for _ in range(cluster.rollouts)]

    def run(self) -> Outcome:
        """Until the last step is learned from."""
        controller = self.env.process(self._control())
        for worker in self.workers:
            process = self.env.process(worker.life(simpy.Interrupt))
            self._endanger(process, 1, lambda worker=worker: worker.up)  # type: ignore[misc]
        self._endanger(controller, self.cluster.learners, lambda: self.up)
        self.env.run(until=controller)
        counted = [self.records[step] for step in range(self.warm, self.last)]
        most = fastest(self.rates, len(self.workers))
        spans = [worker.spans for worker in self.workers]
        return outcome(counted, self.env.now, spans, most, self.lost, self.failures)

    def compute(self, seconds: float, crowd: float | None = None) -> Waiting:
        """On a device of its own, or on a core, by turns with the others, and slower where other cores are busy too."""
        if self.cores is None:
            yield self.env.timeout(seconds)
            return
        slower = self.rates.crowd if crowd is None else crowd
        while seconds > 0:
            with self.cores.request() as turn:
                yield turn
                yield self.env.timeout(min(SLICE, seconds) * (1 + slower * (self.cores.count - 1)))
            seconds -= SLICE

    def arrive(self, done: Unit) -> None:
        """A unit is whole. What was opened before a return to the checkpoint is thrown away."""
        if done.life == self.life and done.version is not None:
            self.arrived[done.step].append(done.version)
            self.missing[done.step] -= 1
            if not self.missing[done.step]:
                self._whole(done.step).succeed()

    def _whole(self, step: int) -> Any:
        """The event that a step's last unit is there, which may be waited for before its first is opened."""
        return self.whole.setdefault(step, self.env.event())

    def _control(self) -> Waiting:
        while self.learned < self.last:
            try:
                yield from self._step(self.learned)
            except simpy.Interrupt:
                yield from self._go_back()

    def _step(self, step: int) -> Waiting:
        times = [self.env.now]
        self._open()
        yield self._whole(step)
        times.append(self.env.now)
        stale = tuple(step - version for version in self.arrived[step])
        lengths = self.lengths[step]
        yield from self.compute(self.rates.score * lengths.size / self.cluster.scorers)
        times.append(self.env.now)
        yield from self.compute(controlling(lengths, self.rates))
        for phase in learning(lengths, self.work, self.cluster, self.rates):
            yield from self._together(phase)
        times.append(self.env.now)
        yield from self._publish(step + 1)
        times.append(self.env.now)
        self.records[step] = Step(
            times[0], *spans(times), tokens=float(lengths.sum()), answers=lengths.size, staleness=stale
        )
        self.learned = step + 1
        yield from self._save()

    def _open(self) -> None:
        """Into the queue with the units of every step that may begin: S ahead of the weights that can be had."""
        while self.opened <= self.version + self.cluster.max_staleness:
            self.lengths[self.opened] = self.work.drawn(self.seed, self.opened)
            parts = list(self._parts(self.lengths[self.opened]))
            self.arrived[self.opened], self.missing[self.opened] = [], len(parts)
            for number, lengths in enumerate(parts):
                self.queue.put(unit(self.opened, number, self.life, lengths, self.cluster, self.rates))
            self.opened += 1

    def _parts(self, lengths: Array) -> Iterator[Array]:
        questions = self.cluster.asked(self.work.questions)
        return (lengths[i : i + questions].ravel() for i in range(0, len(lengths), questions))

    def _publish(self, version: int) -> Waiting:
        """Where weights travel during the next step it begins at once, else when the last worker has them."""
        yield self.env.timeout(publishing(self.cluster, self.rates))
        if self.cluster.overlap:
            self.env.process(self._deliver(version, self.life))
        else:
            yield self.env.timeout(delivering(self.cluster, self.rates) + self.rates.load)
            self.version = version

    def _deliver(self, version: int, life: int) -> Waiting:
        yield self.env.timeout(delivering(self.cluster, self.rates))
        if life == self.life:
            self.version = max(self.version, version)
            self._open()

    def _save(self) -> Waiting:
        if self.cluster.saved and self.learned % self.cluster.saved == 0:
            yield self.env.timeout(self.rates.checkpoint)
            self.saved = self.learned

    def _go_back(self) -> Waiting:
        """A learner failed: all begin again at the last checkpoint, and what was sampled since is sampled again."""
        self.up = False
        self.life, self.lost = self.life + 1, self.lost + self.learned - self.saved
        self.queue.items.clear()
        for opened in (self.whole, self.arrived, self.missing):
            opened.clear()
        self.learned = self.version = self.opened = self.saved
        yield self.env.timeout(self.rates.restart)
        self.up = True

    def _together(self, phase: Phase) -> Waiting:
        """Until the slowest rank is done. What an exchange takes was measured with all ranks at it."""
        yield from self.compute(phase.asked)
        if self.cores is None:
            yield self.env.timeout(float(phase.computing.max()) + phase.exchanging)
            return
        yield self.env.all_of([self.env.process(self.compute(float(seconds))) for seconds in phase.computing])
        for _ in range(phase.operations):
            yield from self._exchange(len(phase.computing), phase.exchanging / phase.operations)

    def _exchange(self, ranks: int, seconds: float) -> Waiting:
        """One operation of all ranks, each on a core. Where others want the cores too, one of them is not there yet."""
        others = self.cores.count + len(self.cores.queue)
        yield self.env.all_of([self.env.process(self.compute(seconds, crowd=0.0)) for _ in range(ranks)])
        if others + ranks > self.cores.capacity:
            yield self.env.timeout(self.rates.stall)

    def _endanger(self, process: Any, devices: int, up: Callable[[], bool]) -> None:
        if self.cluster.failing:
            self.env.process(self._accidents(process, devices, up))

    def _accidents(self, process: Any, devices: int, up: Callable[[], bool]) -> Waiting:
        while True:
            yield self.env.timeout(float(self.random.exponential(self.rates.mtbf / devices)))
            if up() and process.is_alive:
                self.failures += 1
                process.interrupt()


def spans(times: list[float]) -> tuple[float, float, float, float]:
    """How long each of a step's four parts took."""
    waited, scored, learned, synced = (float(span) for span in np.diff(times))
    return waited, scored, learned, synced


def simulate(
    work: Work, cluster: Cluster, rates: Rates, *, steps: int = 16, warm: int | None = None, seed: int = 0
) -> Outcome:
    """What happens in `steps` steps; the same seed gives the same numbers. Without `warm` 2 + S steps are."""
    before = 2 + cluster.max_staleness if warm is None else warm
    return Simulation(work, cluster, rates, steps=steps, warm=before, seed=seed).run()
