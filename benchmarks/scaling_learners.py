"""Parts of a step at the learners: updates and passes in their own processes, weights put together and taken over."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from scaling_answers import NOWHERE, batch_of, clocked, middle, tokens_of

from scoreline.backends.cluster.gang import GangLearner, deal, groups
from scoreline.backends.cluster.parcel import packed
from scoreline.backends.cluster.process import Setting
from scoreline.backends.runtime import Ray
from scoreline.backends.transfer import WholeTensors
from scoreline.config.cluster import make_rank
from scoreline.config.run import Run, completed
from scoreline.train.learner import Update
from scoreline.types import Batch

Row = dict[str, Any]
STILL = Update(lr_factor=0.0)
"""An update like any other, after which the weights are what they were."""
SIZES = (
    *((1, 8, 12, 256), (4, 8, 12, 256), (4, 8, 24, 256), (16, 8, 12, 256), (16, 8, 24, 256)),
    *((2, 8, 12, 8), (4, 8, 12, 8), (8, 8, 12, 8)),
)
"""Questions, answers to each, mean tokens of an answer, rows of a micro-batch."""


def gang(ray: Any, run: Run, ranks: int, micro: int) -> GangLearner:
    """So many learners of a run, as its cluster makes them."""
    run = replace(run, train=replace(run.train, micro_batch_size=micro))
    make = partial(make_rank, run, completed(run))
    return GangLearner(ray, Ray(learners=ranks), make, WholeTensors(), Setting("", "cpu", 1, 0, NOWHERE), 0.0)


def learners(ray: Any, run: Run, ranks: int, repeat: int) -> list[Row]:
    """Updates, passes and published weights of so many ranks."""
    rows: list[Row] = []
    for micro in dict.fromkeys(size[-1] for size in SIZES):
        made = gang(ray, run, ranks, micro)
        try:
            for size in (size for size in SIZES if size[-1] == micro):
                rows += timed(made, batch_of(completed(run), *size[:-1]), run, micro, repeat)
            rows += published(made, repeat) if micro == SIZES[0][-1] else []
        finally:
            made.close()
    return rows


def published(made: GangLearner, repeat: int) -> list[Row]:
    """Weights put together and handed out."""
    facts = {"ranks": len(made.ranks), "parameters": made.parameters}
    return [{"part": "publish", **facts, "seconds": middle(lambda: clocked(made.publish), repeat)}]


def timed(made: GangLearner, batch: Batch, run: Run, micro: int, repeat: int) -> list[Row]:
    """One batch: the update in the learners, what its call takes besides, the passes without gradient with theirs."""
    dealt = [batch.rows(rows) for rows in deal(batch, groups(batch, len(made.ranks)), len(made.ranks))]
    facts = {
        "ranks": len(made.ranks),
        "parameters": made.parameters,
        "rows": len(batch),
        "tokens": max(map(tokens_of, dealt)),
        "sent": int(batch.length.sum()),
        "micro": max(-(-len(part) // micro) for part in dealt),
    }
    calls: list[float] = []
    passes = completed(run).passes(run.train.updates_per_step)
    return [
        {"part": "update", **facts, "seconds": middle(lambda: updated(made, batch, calls), repeat)},
        {"part": "call", **facts, "seconds": sorted(calls)[len(calls) // 2]},
        {"part": "annotate", **facts, "seconds": middle(lambda: clocked(lambda: made.annotate(batch, passes)), repeat)},
    ]


def updated(made: GangLearner, batch: Batch, calls: list[float]) -> float:
    """Seconds of an update in its slowest rank; what the call took besides is noted."""
    found: list[float] = []
    whole = clocked(lambda: found.append(made.update(batch, STILL).metrics["time/update"]))
    calls.append(whole - found[0])
    return found[0]


def crowded(ray: Any, run: Run, repeat: int) -> list[Row]:
    """The same update by a learner alone, and by two learners that know nothing of one another at one time."""
    pair = [gang(ray, run, 1, 256) for _ in range(2)]
    try:
        batch = batch_of(completed(run), 16, 8, 12)
        one, two = (middle(partial(together, ray, pair[:n], batch), repeat) for n in (1, 2))
    finally:
        for made in pair:
            made.close()
    return [{"part": "crowd", "of": "update", "alone": one, "beside": two}]


def together(ray: Any, gangs: list[GangLearner], batch: Batch) -> float:
    """Seconds of an update, on average over those that were begun together."""
    rows = packed(batch, torch.arange(len(batch)))
    found = ray.get([made.ranks[0].update.remote(rows, STILL) for made in gangs])
    return float(sum(metrics["time/update"] for metrics, _ in found) / len(found))
