"""What a vLLM worker gains by several units at once (`runtime.at_once`), in the environment of `make test-vllm`:

    .vllm/bin/python benchmarks/full_workers.py --model SMOLLM2_FOLDER [--gsm8k FOLDER] [--repetitions 5]

`waves` samples units of sixteen answers, one after the other: sixteen places, and none is filled before the last of
them ends. `full` samples units of four answers, four at once: a unit takes the places that another one has left.
Both sample the same answers, whose lengths are drawn as those of `docs/scaling.md`: lognormal with a spread of 0.8.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import fmean, median

import numpy as np
import torch
from workload import questions, smollm2

from scoreline.backends.vllm import Serving, Vllm, VllmEngine
from scoreline.backends.vllm_flight import parameters
from scoreline.models.policy import Model, load_policy
from scoreline.rollout.engine import Sampling
from scoreline.types import Prompt, Request

ANSWERS, PLACES, LONGEST, SPREAD = 4, 16, 256, 0.8


def main() -> None:
    """Warm up, then measure both ways in turns; print medians and their ratio."""
    told = arguments()
    torch.set_num_threads(told.threads)
    policy = load_policy(Model(path=told.model, device="cpu"))
    rows = questions(smollm2(told.model, told.questions), told.questions, told.gsm8k)
    prompts = [policy.text.encode(Prompt("bench", tuple(row["prompt"]))) for row in rows[: told.questions]]
    settings = Vllm(context=512, memory=0.05, rows=PLACES, eager=True)
    engine = VllmEngine(policy, settings, Sampling(), prompts, Serving(callers=PLACES // ANSWERS))
    rates: dict[str, list[float]] = {"waves": [], "full": []}
    for repetition in range(told.repetitions + 1):
        lengths = drawn(len(prompts) * ANSWERS, told.mean, repetition)
        for way, found in rates.items():
            engine.load(repetition)
            seconds = sample(engine, prompts, lengths, way)
            found += [sum(lengths) / seconds] if repetition else []
    print(f"{len(lengths)} answers, in the last repetition of {fmean(lengths):.0f} tokens, {max(lengths)} at most")
    for way, found in rates.items():
        print(f"{way}: {median(found):.0f} tokens a second, {min(found):.0f} to {max(found):.0f}")
    ratios = sorted(one / other for one, other in zip(rates["full"], rates["waves"], strict=True))
    print(f"full / waves: {median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}")
    engine.close()


def drawn(count: int, mean: float, seed: int) -> list[int]:
    """Lengths of so many answers."""
    lengths = np.random.default_rng(seed).lognormal(np.log(mean) - SPREAD**2 / 2, SPREAD, count)
    return [int(length) for length in np.clip(lengths, 1, LONGEST)]


def sample(engine: VllmEngine, prompts: Sequence[tuple[int, ...]], lengths: Sequence[int], way: str) -> float:
    """Seconds for all answers."""
    asked = [Request(ids, (0, i, j)) for i, ids in enumerate(prompts) for j in range(ANSWERS)]
    told = [
        parameters(one, replace(engine.sampling, max_completion_length=length), ())
        for one, length in zip(asked, lengths, strict=True)
    ]
    size, callers = (PLACES, 1) if way == "waves" else (ANSWERS, PLACES // ANSWERS)
    starts = range(0, len(asked), size)
    started = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        ids = [request.prompt_ids for request in asked]
        done = list(pool.map(lambda i: engine.flight.answer(ids[i : i + size], told[i : i + size]), starts))
    seconds = time.perf_counter() - started
    assert [len(output.token_ids) for unit in done for output in unit] == list(lengths)
    return seconds


def arguments() -> argparse.Namespace:
    """What is measured, and how."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the folder of SmolLM2-135M-Instruct")
    parser.add_argument("--gsm8k", help="the folder of GSM8K; without it, built-in questions")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--mean", type=float, default=64.0, help="tokens of an answer")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
