"""What is asked of the model: one function a study, from 1 to 1,024 devices. Rows are plain JSON."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from scaling_fit import fit, measured_parts
from scaling_model import Cluster, Lognormal, Rates, Work
from scaling_outcome import Outcome
from scaling_process import simulate
from scaling_rates import LARGE, SMALL, Model, stated

Row = dict[str, Any]

LENGTHS = Lognormal(mean=2048, spread=0.8, most=16384)
WORK = Work(questions=256, answers=16, prompt=200, lengths=LENGTHS, updates=4)
"""A step of the sweep: 4,096 answers of 2,048 tokens on average, some of them 16,384."""

SHARES = (0.0625, 0.125, 0.1875, 0.25, 0.375, 0.5, 0.625, 0.75)
"""Shares of the devices that learn, among which the best is looked for."""
EACH = (1, 2, 4, 8)
"""Units a worker has of a step, among which too."""
MIDDLE = 0.25
"""The share that learns where it is not what is asked."""
FULL = 16
"""Units of one question that fill a worker: 16 answers each, 256 in flight."""
SCORERS = 8


@dataclass(frozen=True)
class Scale:
    """How much of it: fewer devices and steps show that it runs."""

    devices: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    staleness: tuple[int, ...] = (0, 1, 2, 4, 8)
    middle: int = 64
    large: tuple[int, ...] = (64, 256, 1024)
    filled: tuple[int, ...] = (16, 64, 256)
    steps: int = 16
    failing_steps: int = 600
    work: Work = field(default=WORK)

    @property
    def few(self) -> tuple[int, ...]:
        """Synchronous, and two that are not."""
        return tuple(s for s in self.staleness if s in (0, 1, 4))


SMOKE = Scale((1, 2, 8), (0, 1), 8, (8,), (8,), 2, 4, Work(8, 4, 200, LENGTHS, 2))


def rates_of(model: Model, work: Work) -> Rates:
    """An answer's token looks back at the prompt and, over long and short answers, at about a mean answer."""
    return stated(model, work.prompt + LENGTHS.mean)


def cluster(devices: int, share: float, staleness: int, work: Work, least: int = 1, *, each: int = 2) -> Cluster | None:
    """So many devices, of which a share learns; `each` units a worker in a step, while questions last."""
    learners = max(least, 1, round(devices * share))
    rollouts = devices - learners
    if rollouts < 1:
        return None
    unit = max(1, work.questions // (rollouts * each))
    return Cluster(
        learners, rollouts, staleness, unit=unit, scorers=SCORERS, hidden=True, overlap=staleness > 0, route="ring"
    )


def point(work: Work, made: Cluster, rates: Rates, scale: Scale, seed: int = 0) -> Row:
    """One simulation: the cluster, and what happened on it."""
    return shown(made, work, simulate(work, made, rates, steps=scale.steps, seed=seed))


def shown(made: Cluster, work: Work, found: Outcome) -> Row:
    """As JSON, with what follows from it."""
    more = {"tokens_per_second": found.tokens_per_second, "seconds_per_step": found.seconds_per_step}
    more |= {"steps_per_hour": 3600 / found.seconds_per_step, "answers_per_hour": 3600 * found.answers / found.seconds}
    stale = {"mean_staleness": found.mean_staleness, "staleness": {str(s): x for s, x in found.staleness.items()}}
    plain = {name: float(value) for name, value in asdict(found).items() if name != "staleness"}
    return {"devices": made.devices, **asdict(made), "questions": work.questions} | plain | more | stale


def tuned(
    devices: int, shares: Sequence[float], staleness: int, work: Work, rates: Rates, scale: Scale, at_once: int = 1
) -> Row | None:
    """The split of the devices, and the size of the units, with the most tokens a second."""
    made = [cluster(devices, share, staleness, work, rates.least, each=each) for share in shares for each in EACH]
    if at_once > 1:
        made = [replace(one, unit=1, at_once=at_once) for one in made if one is not None]
    tried = dict.fromkeys(one for one in made if one is not None)
    return max((point(work, each, rates, scale) for each in tried), key=speed, default=None)


def speed(row: Row) -> float:
    """What is compared."""
    return float(row["tokens_per_second"])


def scaling(scale: Scale) -> list[Row]:
    """The same step on more and more devices, for each staleness, with the best split; and by turns."""
    rates = rates_of(SMALL, scale.work)
    rows: list[Row] = []
    for devices in scale.devices:
        print(f"{devices} devices", file=sys.stderr, flush=True)
        turns = Cluster(devices, devices, shared=True, scorers=SCORERS, hidden=True)
        rows.append(point(scale.work, turns, rates, scale))
        found = [tuned(devices, SHARES, s, scale.work, rates, scale) for s in scale.staleness]
        rows += [row for row in found if row is not None]
    return rows


def filling(scale: Scale) -> list[Row]:
    """Workers that take a unit of one question whenever they have room for it; `scaling` has one unit at a time."""
    rates = rates_of(SMALL, scale.work)
    rows: list[Row] = []
    for devices in scale.filled:
        print(f"{devices} devices, full", file=sys.stderr, flush=True)
        found = [tuned(devices, SHARES[1:6], s, scale.work, rates, scale, FULL) for s in scale.few]
        rows += [row for row in found if row is not None]
    return rows


def splitting(scale: Scale) -> list[Row]:
    """Every split of the same devices."""
    rates = rates_of(SMALL, scale.work)
    found = [tuned(scale.middle, (share,), s, scale.work, rates, scale) for s in scale.few for share in SHARES]
    return [row for row in found if row is not None]


def tails(scale: Scale) -> list[Row]:
    """Longer and longer tails of the answers' lengths, around the same mean; one unit at a time and full workers."""
    rates = rates_of(SMALL, scale.work)
    rows: list[Row] = []
    for spread in (0.0, 0.4, 0.8, 1.2):
        work = replace(scale.work, lengths=centred(spread))
        for staleness in scale.few:
            for at_once in (1, FULL):
                found = tuned(scale.middle, (MIDDLE,), staleness, work, rates, scale, at_once)
                assert found is not None
                rows.append({"spread": spread, "longest": float(work.drawn(0, 0).max()), **found})
    return rows


def centred(spread: float) -> Lognormal:
    """Lengths whose mean behind the cut is that of the sweep."""
    target = float(Work(2000, 16, 0, LENGTHS).drawn(0, 0).mean())
    mean = target
    for _ in range(20):
        mean *= target / float(Work(2000, 16, 0, Lognormal(mean, spread, LENGTHS.most)).drawn(0, 0).mean())
    return Lognormal(mean, spread, LENGTHS.most)


def units(scale: Scale) -> list[Row]:
    """Larger and smaller units, one or several at once on a worker."""
    rates = rates_of(SMALL, scale.work)
    rows: list[Row] = []
    for staleness in scale.few:
        made = cluster(scale.middle, MIDDLE, staleness, scale.work)
        assert made is not None
        for unit, at_once in ((None, 1), (4, 1), (2, 1), (1, 1), (1, 2), (1, 4), (1, 8), (1, 16)):
            rows.append(point(scale.work, replace(made, unit=unit, at_once=at_once), rates, scale))
    return rows


def transfer(scale: Scale) -> list[Row]:
    """Ways of the weights of a larger model, before the next step or behind it."""
    rates = rates_of(LARGE, scale.work)
    rows: list[Row] = []
    for devices in scale.large:
        for staleness in (0, 1):
            for route in ("tree", "ring"):
                for overlap in (False, True) if staleness else (False,):
                    made = cluster(devices, MIDDLE, staleness, scale.work, rates.least)
                    assert made is not None
                    rows.append(point(scale.work, replace(made, route=route, overlap=overlap), rates, scale))
    return rows


def failures(scale: Scale) -> list[Row]:
    """Devices that fail every so many hours on average; a checkpoint every ten steps of 64 questions."""
    rates = rates_of(SMALL, scale.work)
    rows: list[Row] = []
    work = replace(scale.work, questions=min(64, scale.work.questions))
    for devices in (scale.large[len(scale.large) // 2], scale.large[-1]):
        for staleness in (scale.few[0], scale.few[-1]):
            made = cluster(devices, MIDDLE, staleness, work)
            assert made is not None
            for hours in (math.inf, 500.0, 200.0, 100.0, 50.0):
                harsh = replace(rates, mtbf=hours * 3600)
                fails = replace(made, saved=10, failing=hours < math.inf)
                found = simulate(work, fails, harsh, steps=scale.failing_steps, seed=1)
                rows.append(
                    {"hours": hours, "expected": expected(fails, harsh, rows, hours), **shown(fails, work, found)}
                )
    return rows


def expected(made: Cluster, rates: Rates, before: Sequence[Row], hours: float) -> float:
    """Share of the time that learners' failures should cost: each a restart and half of what is between checkpoints."""
    if math.isinf(hours):
        return 0.0
    calm = next(row for row in reversed(before) if math.isinf(row["hours"]))
    cost = rates.restart + made.saved / 2 * float(calm["seconds_per_step"])
    often = made.learners / rates.mtbf
    return often * cost / (1 + often * cost)


def growing(scale: Scale) -> list[Row]:
    """A step that grows with the devices: four questions each."""
    rows = []
    for devices in (d for d in scale.devices if 8 <= d <= 512):
        work = replace(scale.work, questions=4 * devices)
        for staleness in scale.few:
            made = cluster(devices, MIDDLE, staleness, work, each=1)
            assert made is not None
            few = replace(scale, steps=max(2, scale.steps // 2))
            rows.append(point(work, replace(made, scorers=max(1, devices // 8)), rates_of(SMALL, work), few))
    return rows


def scoring(scale: Scale) -> list[Row]:
    """Slower rewards, on more or fewer scorers: the loop scores a step when its last answer is there."""
    rates = rates_of(SMALL, scale.work)
    rows: list[Row] = []
    for seconds, scorers in ((0.001, 1), (0.01, 1), (0.1, 1), (0.1, 8), (0.1, 64), (1.0, 64)):
        made = cluster(scale.middle, MIDDLE, scale.few[-1], scale.work)
        assert made is not None
        told = point(scale.work, replace(made, scorers=scorers), replace(rates, score=seconds), scale)
        rows.append({"score": seconds, **told})
    return rows


def loop(scale: Scale) -> list[Row]:
    """The process of the loop: free as in all other studies, at this machine's rates, and without padding."""
    here, rates = fit(measured_parts()), rates_of(SMALL, scale.work)
    told = {name: getattr(here, name) for name in ("control", "handle", "carry", "pad", "ask", "send")}
    packed = told | {"pad": 0.0, "carry": here.carry + here.pad}
    rows: list[Row] = []
    for devices in scale.large:
        for staleness in scale.few:
            made = cluster(devices, MIDDLE, staleness, scale.work)
            assert made is not None
            for kind, given in (("free", {}), ("as it is", told), ("no padding", packed)):
                rows.append({"loop": kind, **point(scale.work, made, replace(rates, **given), scale)})
    return rows


STUDIES: dict[str, Callable[[Scale], list[Row]]] = {
    "scaling": scaling,
    "filling": filling,
    "splitting": splitting,
    "units": units,
    "tails": tails,
    "transfer": transfer,
    "failures": failures,
    "growing": growing,
    "scoring": scoring,
    "loop": loop,
}


def table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Columns of numbers, for a terminal."""
    lines = [columns, *([brief(row.get(name)) for name in columns] for row in rows)]
    return "\n".join("  ".join(f"{cell:>17}" for cell in line) for line in lines)


def brief(value: Any) -> str:
    """Three digits of a number, anything else as it is."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
