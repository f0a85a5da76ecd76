"""A run on many devices, described: what is done, on what, at which rates; and what each part of it takes alone.

    unit of answers   unit + prefill * prompts + decode_step * iterations + decode_row * tokens

What learners and the loop take is in `scaling_learning.py`. Nothing here knows of time going by: `scaling_process.py`
lets the parts wait for one another.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Literal, Protocol

import numpy as np

from scoreline.errors import ConfigError

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Generator = np.random.Generator


@dataclass(frozen=True)
class Rates:
    """What one model does on one kind of device. Seconds, bytes, bytes a second; `sources` says where each is from."""

    decode_step: float
    """s of one decoding step, however few rows there are"""
    decode_row: float
    """s more of a decoding step for each row in flight"""
    prefill: float
    """s a token of a prompt"""
    rows: int
    """answers in flight at once on a worker"""
    unit: float
    """s a unit takes besides its tokens: the call, the way there and back"""
    control: float
    """s a step takes in the process of the loop, besides its answers"""
    handle: float
    """s more for each answer"""
    carry: float
    """s more for each of their tokens"""
    pad: float
    """s more for each place of the table that has a row an answer, as wide as the longest"""
    ask: float
    """s of asking the learners for something, besides what they are sent"""
    send: float
    """s more for each token of the answers that they are sent"""
    annotate: float
    """s a token in the passes without gradient, on one learner"""
    passes: float
    """s of these passes besides the tokens, for each micro-batch"""
    learn: float
    """s a token forwards and backwards, on one learner"""
    turn: float
    """s of forwards and backwards besides the tokens, for each micro-batch"""
    update: float
    """s of an optimiser update besides its micro-batches"""
    micro: float
    """tokens of a micro-batch; weights are exchanged once in each"""
    exchange: float
    """bytes that a micro-batch of an update exchanges among the learners"""
    collectives: float
    """operations in which it does"""
    gathered: float
    """bytes that a micro-batch of the passes without gradient gathers"""
    gathers: float
    """operations in which it does"""
    tensors: float
    """tensors that the weights are, when they are put together for the workers"""
    join: float
    """s of putting one of them together, besides hops and bytes"""
    latency: float
    """s of an operation among the learners, besides hops and bytes"""
    hop: float
    """s more for each further learner"""
    leap: float
    """s more for each further node"""
    skew: float
    """share by which learners that wait for one another in every operation compute longer than one alone"""
    crowd: float
    """share by which a core computes longer for each other core that computes at the time"""
    stall: float
    """s that an operation among the learners waits where more processes compute than there are cores"""
    within: float
    """bytes/s of a device to others of its node"""
    between: float
    """bytes/s of a device to other nodes"""
    node: int
    """devices of a node"""
    weights: float
    """bytes of the weights that travel to the workers"""
    call: float
    """s of a transfer besides its bytes"""
    load: float
    """s in which a worker takes over weights that have arrived"""
    score: float
    """s an answer takes on one scorer"""
    checkpoint: float
    """s of a checkpoint"""
    mtbf: float
    """s between failures of one device, on average"""
    replace: float
    """s until a worker that failed is replaced"""
    restart: float
    """s until the learners are back, when one of them failed"""
    least: int
    """the fewest learners that hold the model"""
    sources: Mapping[str, str] = field(compare=False)
    """where each number is from: a measurement, a data sheet, or an assumption"""

    def __post_init__(self) -> None:
        without = {f.name for f in fields(self)} - {"sources"} - self.sources.keys()
        if without:
            raise ConfigError(
                "A rate has no source.", got=", ".join(sorted(without)), accepted="a source for each", todo="add it."
            )


class Lengths(Protocol):
    """How long answers are, in tokens."""

    def draw(self, random: Generator, step: int, shape: tuple[int, int]) -> Array:
        """Of [questions, answers] in a step, counted from 0."""
        ...


@dataclass(frozen=True)
class Constant:
    """All answers have as many tokens."""

    tokens: float

    def draw(self, random: Generator, step: int, shape: tuple[int, int]) -> Array:
        """The same number everywhere."""
        return np.full(shape, float(self.tokens))


@dataclass(frozen=True)
class Lognormal:
    """exp(mu + spread z), z normal, cut at `most`. `mean` is the mean before the cut; spread 0 is `Constant`."""

    mean: float
    spread: float
    most: float

    def draw(self, random: Generator, step: int, shape: tuple[int, int]) -> Array:
        """Whole tokens, at least one."""
        drawn = random.lognormal(math.log(self.mean) - self.spread**2 / 2, self.spread, shape)
        return np.clip(np.round(drawn), 1.0, self.most)


@dataclass(frozen=True)
class Recorded:
    """The answers of a real run, of which each step's (mean, min, max) are known.

    In between a triangle is drawn, with its corner where it gives the mean; then all are shifted to that mean.
    """

    steps: tuple[tuple[float, float, float], ...]

    def draw(self, random: Generator, step: int, shape: tuple[int, int]) -> Array:
        """Of the recorded step; behind the last one it begins anew."""
        mean, low, high = self.steps[step % len(self.steps)]
        if low == high:
            return np.full(shape, mean)
        drawn = random.triangular(low, min(max(3 * mean - low - high, low), high), high, shape)
        return np.clip(drawn + mean - float(drawn.mean()), low, high)


@dataclass(frozen=True)
class Work:
    """A step: so many questions, answers to each, tokens a prompt, optimiser updates on their answers."""

    questions: int
    answers: int
    prompt: float
    lengths: Lengths
    updates: int = 1

    def drawn(self, seed: int, step: int) -> Array:
        """The tokens of a step's answers [questions, answers]: a function of (seed, step) alone."""
        return self.lengths.draw(np.random.default_rng([seed, step]), step, (self.questions, self.answers))


@dataclass(frozen=True)
class Cluster:
    """Who does it. `shared` devices learn and sample by turns; else each does one of the two.

    `unit` questions are sampled together (None: a step's questions divided by the workers); a worker holds `at_once`
    units. Weights go to the workers by a `tree` or in pieces along a `ring`; `overlap`: while learning goes on.
    `hidden`: the learners exchange weights behind their computing. `cores` are shared by all processes (None: each
    has its own device). `failing` devices fail at the rate's `mtbf`; every `saved` steps there is a checkpoint.
    """

    learners: int
    rollouts: int
    max_staleness: int = 0
    shared: bool = False
    unit: int | None = None
    at_once: int = 1
    scorers: int = 1
    route: Literal["tree", "ring"] = "tree"
    overlap: bool = False
    hidden: bool = False
    cores: int | None = None
    failing: bool = False
    saved: int = 0

    def __post_init__(self) -> None:
        if self.shared and (self.learners != self.rollouts or self.max_staleness):
            raise ConfigError(
                "Devices that are shared learn and sample by turns.",
                got=f"{self.learners} learners, {self.rollouts} rollouts, max_staleness {self.max_staleness}",
                accepted="as many learners as rollouts, and max_staleness 0",
            )
        if self.cores is not None and self.at_once > 1:
            raise ConfigError("Cores are shared by workers of one unit at a time.", got=f"at_once {self.at_once}")

    @property
    def devices(self) -> int:
        """How many there are."""
        return self.learners if self.shared else self.learners + self.rollouts

    def asked(self, questions: int) -> int:
        """Questions of a unit."""
        return max(1, math.ceil(questions / self.rollouts)) if self.unit is None else self.unit


def chains(lengths: Array, rows: int) -> Array:
    """Tokens that each of at most `rows` places of a batch decodes, when the next answer enters where one has ended."""
    if len(lengths) <= rows:
        return lengths
    ends = list(map(float, lengths[:rows]))
    heapq.heapify(ends)
    for length in lengths[rows:]:
        heapq.heapreplace(ends, ends[0] + float(length))
    return np.asarray(ends)


def decoded(places: Array, rates: Rates) -> float:
    """Seconds until all places are done: each iteration takes decode_step, and decode_row for each row in flight."""
    return rates.decode_step * float(places.max()) + rates.decode_row * float(places.sum())


def decoding(remaining: Array, rates: Rates) -> tuple[Array, Array]:
    """(iterations, seconds) at the end of each place, in order; the last of them is `decoded`."""
    ends = np.sort(remaining)
    alive = len(ends) - np.arange(len(ends))
    seconds = np.cumsum(np.diff(ends, prepend=0.0) * (rates.decode_step + rates.decode_row * alive))
    return np.concatenate([[0.0], ends]), np.concatenate([[0.0], seconds])


def entering(lengths: Array, work: Work, rates: Rates) -> float:
    """Seconds before a unit's first token: the call and the prompts, each question's once."""
    return rates.unit + rates.prefill * work.prompt * math.ceil(len(lengths) / work.answers)


def unit_seconds(lengths: Array, work: Work, rates: Rates) -> float:
    """Seconds of a unit on a worker that does nothing else."""
    return entering(lengths, work, rates) + decoded(chains(lengths, rates.rows), rates)


def as_json(rates: Rates) -> dict[str, object]:
    """Every rate with its source."""
    values = asdict(rates)
    sources = values.pop("sources")
    return {name: {"value": value, "source": sources[name]} for name, value in values.items()}


def from_json(told: Mapping[str, Mapping[str, float | str]]) -> Rates:
    """What `as_json` wrote."""
    values = {name: entry["value"] for name, entry in told.items()}
    return Rates(**values, sources={name: str(entry["source"]) for name, entry in told.items()})  # type: ignore[arg-type]


def fastest(rates: Rates, rollouts: int) -> float:
    """Answer tokens a second that so many workers cannot exceed: every place is always taken, prompts cost nothing."""
    return rollouts / (rates.decode_row + rates.decode_step / rates.rows)
