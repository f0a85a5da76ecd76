"""Parts of a step at the workers: units of several sizes, and weights taken over."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from scaling_answers import NOWHERE, batch_of, clocked, completion, middle

from scoreline.backends.cluster.parcel import packed, unpacked
from scoreline.backends.cluster.process import Setting, places, spawn
from scoreline.backends.cluster.worker import Worker
from scoreline.backends.transfer import WholeTensors
from scoreline.config.build import encode
from scoreline.config.cluster import make_worker
from scoreline.config.run import Run, completed
from scoreline.environments.prompts import load
from scoreline.models.policy import load_policy
from scoreline.rollout.engine import Sampling
from scoreline.types import Request

Row = dict[str, Any]
SIZES = ((2, 8, 32), (8, 8, 32), (16, 8, 32), (8, 8, 8), (16, 4, 16), (4, 8, 4), (16, 8, 4), (16, 2, 4))
"""Questions, answers to each, the most tokens of an answer."""


def workers(ray: Any, run: Run, repeat: int) -> list[Row]:
    """One worker alone, and two at one time."""
    policy = load_policy(run.model)
    asked = [encoded.ids for encoded in encode(policy, load(run.data).train, run)]
    group = places(ray, 2, "SPREAD", 0.0, 60.0)
    make = partial(make_worker, run, asked[:8])
    setting = Setting("", "cpu", 1, 0, NOWHERE)
    pair = [
        spawn(ray, Worker, (group, i), gpus=0.0, threads=1, arguments=(make, WholeTensors(), setting)) for i in range(2)
    ]
    try:
        ray.get([worker.whereabouts.remote() for worker in pair])
        sent = ray.put(WholeTensors().sent(policy.weights().items()))
        rows = [row for size in SIZES for row in unit(ray, pair[0], asked, run, size, repeat)]
        more = [row for tokens in (12, 192, 1536) for row in fetched(ray, run, tokens, repeat)]
        return [*rows, crowd(ray, pair, asked, run, repeat), loaded(ray, pair[0], sent, repeat), *more]
    finally:
        for worker in pair:
            ray.kill(worker)
        ray.util.remove_placement_group(group)


def requests(asked: Any, questions: int, answers: int) -> list[Request]:
    """So many answers to each of the first questions."""
    return [Request(ids, (0, 0, i, j)) for i, ids in enumerate(asked[:questions]) for j in range(answers)]


def unit(ray: Any, worker: Any, asked: Any, run: Run, size: tuple[int, int, int], repeat: int) -> list[Row]:
    """A unit's seconds at the worker, and what the call takes besides."""
    questions, answers, most = size
    wanted, sampling = requests(asked, questions, answers), replace(run.sampling, max_completion_length=most)
    found: list[Any] = []
    calls: list[float] = []
    inside = middle(lambda: generated(ray, worker, wanted, sampling, found, calls), repeat)
    lengths = [len(answer.token_ids) for answer in found]
    facts = {
        "iterations": max(lengths),
        "tokens": sum(lengths),
        "prompts": sum(len(ids) for ids in asked[:questions]),
        "answers": len(wanted),
    }
    told = {"part": "unit", **facts, "seconds": inside}
    return [told, {"part": "delivery", **facts, "seconds": sorted(calls)[len(calls) // 2]}]


def generated(
    ray: Any, worker: Any, wanted: list[Request], sampling: Sampling, found: list[Any], calls: list[float]
) -> float:
    """Seconds at the worker; the answers, and what the call took besides, are noted."""
    done: list[Any] = []
    whole = clocked(lambda: done.append(ray.get(worker.generate.remote(wanted, sampling))))
    answers, inside = done[0]
    found[:] = answers
    calls.append(whole - inside)
    return float(inside)


def crowd(ray: Any, pair: list[Any], asked: Any, run: Run, repeat: int) -> Row:
    """The same unit by one worker, and by two at one time."""
    wanted = requests(asked, 16, 8)

    def together(count: int) -> float:
        found = ray.get([worker.generate.remote(wanted, run.sampling) for worker in pair[:count]])
        return float(sum(seconds for _, seconds in found) / count)

    one, two = (middle(partial(together, count), repeat) for count in (1, 2))
    return {"part": "crowd", "of": "unit", "alone": one, "beside": two}


def loaded(ray: Any, worker: Any, sent: Any, repeat: int) -> Row:
    """Weights that are in the object store, taken over."""
    versions = iter(range(1, 10_000))
    seconds = middle(lambda: clocked(lambda: ray.get(worker.load.remote(next(versions), sent))), repeat)
    return {"part": "load", "seconds": seconds}


def fetched(ray: Any, run: Run, tokens: int, repeat: int) -> list[Row]:
    """Answers of so many tokens each, taken out of the object store; and on their way to a learner, from packing to
    unpacking.
    """
    told = {"answers": 512, "tokens": 512 * tokens}
    sent = ray.put([completion(tokens) for _ in range(512)])
    batch = batch_of(completed(run), 64, 8, tokens)
    taken = middle(lambda: clocked(lambda: ray.get(sent)), repeat)
    rows = torch.arange(len(batch))
    travelled = middle(lambda: clocked(lambda: unpacked(ray.get(ray.put(packed(batch, rows))))), repeat)
    return [
        {"part": "fetch", **told, "seconds": taken},
        {"part": "parcel", "answers": len(batch), "sent": int(batch.length.sum()), "seconds": travelled},
    ]
