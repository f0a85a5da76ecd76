"""The sides of the sampling benchmark, each a function that samples once and says how long it took."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ours
import torch
from clock import now
from floor import TYPES
from machine import device
from sampling import OURS, Turn
from transformers import ContinuousBatchingConfig, GenerationConfig
from workload import SEED, WORKLOADS, Setup, Workload, questions

from scoreline.models.loading import load_causal_lm
from scoreline.rollout.engine import Sampling
from scoreline.types import Request

NAMES = {
    "dynamic": "transformers generate, dynamic cache",
    "static": "transformers generate, static cache",
    "batch": "transformers generate_batch",
}
PAGE = 256
"""Tokens of a page of transformers' continuous batching, its default."""


@dataclass(frozen=True)
class Task:
    """What is sampled: a workload whose answers take their whole budget, its questions as tokens, our run of it."""

    workload: Workload
    prompts: tuple[tuple[int, ...], ...]
    setup: Setup
    pad: int

    @property
    def rows(self) -> list[tuple[int, ...]]:
        """One prompt an answer."""
        return [ids for ids in self.prompts for _ in range(self.workload.answers)]

    @property
    def tokens(self) -> int:
        """Of all answers."""
        return self.workload.rows * self.workload.budget


def make_task(args: Namespace, prompts: int, answers: int) -> Task:
    """The workload's model and questions, tokenized as our run does it."""
    work = replace(WORKLOADS[args.workload](args.model, prompts), answers=answers, fixed_length=True)
    rows = questions(work, prompts, args.gsm8k)
    setup = Setup(work, rows, 1, 0, 0.0, args.precision, "amp", device(args.device))
    with tempfile.TemporaryDirectory() as folder:
        mine = ours.Ours(setup, Path(folder))
        asked = tuple(tuple(e.ids) for e in mine.built.parts.collector.prompts)
        pad = mine.built.policy.text.pad_id
        mine.close()
    return Task(work, asked, setup, pad)


@contextmanager
def sides(args: Namespace, task: Task) -> Iterator[dict[str, Turn]]:
    """All of them, by the names that the table shows; what they hold is given back at the end."""
    with ExitStack() as stack:
        found = {OURS: stack.enter_context(scoreline(task))}
        if args.compile:
            compiled = replace(task, setup=replace(task.setup, compile=True))
            found[f"{OURS}, compiled"] = stack.enter_context(scoreline(compiled))
        plain = {name for name in args.peers if name != "vllm"}
        model = transformers_model(task) if plain else None
        makers = {"dynamic": generate, "static": generate_static, "batch": generate_batch}
        found |= {NAMES[name]: makers[name](model, task) for name in makers if name in plain}
        if "vllm" in args.peers:
            found |= stack.enter_context(vllm(args.vllm, task, args.threads))
        yield found


@contextmanager
def scoreline(task: Task) -> Iterator[Turn]:
    """The engine of a run, as the loop uses it."""
    with tempfile.TemporaryDirectory() as folder:
        mine = ours.Ours(task.setup, Path(folder))
        engine, sampling = mine.built.parts.engine, Sampling(max_completion_length=task.workload.budget)

        def turn(seed: int) -> tuple[float, int]:
            requests = [Request(ids, (seed, i)) for i, ids in enumerate(task.rows)]
            started = now(task.setup.device)
            done = engine.generate(requests, sampling)
            return now(task.setup.device) - started, sum(len(answer.token_ids) for answer in done)

        try:
            yield turn
        finally:
            mine.close()


def transformers_model(task: Task) -> Any:
    """The same weights, wholly in the precision that was asked for, with no token that ends an answer."""
    model: Any = load_causal_lm(task.workload.model, dtype=TYPES[task.setup.precision], seed=SEED)
    model.generation_config.eos_token_id = None
    return model.to(task.setup.device)


def settings(task: Task, **more: Any) -> GenerationConfig:
    """Plain sampling at temperature 1 for the whole budget."""
    plain = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": task.pad}
    return GenerationConfig(**plain, max_new_tokens=task.workload.budget, **more)


def generate(model: Any, task: Task, **more: Any) -> Turn:
    """`generate` on the whole batch, prompts padded on the left."""
    width = max(map(len, task.prompts))
    ids = torch.tensor([[task.pad] * (width - len(p)) + list(p) for p in task.prompts], device=task.setup.device)
    there = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in task.prompts], device=task.setup.device)
    config = settings(task, num_return_sequences=task.workload.answers, **more)

    @torch.no_grad()
    def turn(seed: int) -> tuple[float, int]:
        torch.manual_seed(seed)
        started = now(task.setup.device)
        done = model.generate(ids, attention_mask=there, generation_config=config)
        seconds = now(task.setup.device) - started
        return seconds, checked(len(done) * (done.shape[1] - width), task)

    return turn


def generate_static(model: Any, task: Task) -> Turn:
    """The same with memory reserved beforehand."""
    return generate(model, task, cache_implementation="static")


def generate_batch(model: Any, task: Task) -> Turn:
    """Continuous batching; the cache holds all answers, where its default would take most of the machine's memory."""
    pages = sum(-(-(len(ids) + task.workload.budget) // PAGE) for ids in task.rows)

    def turn(seed: int) -> tuple[float, int]:
        before, rows = model.config._attn_implementation, [list(ids) for ids in task.rows]
        sized = ContinuousBatchingConfig(num_blocks=pages, max_batch_tokens=sum(map(len, rows)), seed=seed)
        started = now(task.setup.device)
        done = model.generate_batch(rows, generation_config=settings(task), continuous_batching_config=sized)
        seconds = now(task.setup.device) - started
        model.set_attn_implementation(before)
        return seconds, checked(sum(len(answer.generated_tokens) for answer in done.values()), task)

    return turn


@contextmanager
def vllm(python: Path, task: Task, threads: int | None) -> Iterator[dict[str, Turn]]:
    """A child process with vLLM, by the version that it says; between its turns it waits for a line."""
    here = Path(__file__).resolve().parent / "vllm_side.py"
    told = {"model": task.workload.model, "precision": task.setup.precision, "answers": task.workload.answers}
    told |= {"budget": task.workload.budget, "prompts": task.prompts}
    environment = surroundings(threads or torch.get_num_threads())
    command = [str(python), str(here)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as child:
        version = ask(child, told)["version"]

        def turn(seed: int) -> tuple[float, int]:
            answer = ask(child, {"turn": seed})
            return answer["seconds"], checked(answer["tokens"], task)

        try:
            yield {version: turn}
        finally:
            if child.stdin is not None:
                child.stdin.close()


def surroundings(threads: int) -> dict[str, str]:
    """For vLLM: no process beside its own, as many cores as our side has threads, 2 GiB of cache on a CPU."""
    own = {"OMP_NUM_THREADS": str(threads), "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2"}
    if hasattr(os, "sched_getaffinity"):
        own["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own


def ask(child: Any, told: dict[str, Any]) -> Any:
    """One line there, one line back."""
    answer = ""
    if child.poll() is None:
        child.stdin.write(json.dumps(told) + "\n")
        child.stdin.flush()
        answer = child.stdout.readline()
    if not answer:
        raise SystemExit("vLLM's process has ended; what it said is above.")
    return json.loads(answer)


def checked(tokens: int, task: Task) -> int:
    """Refuse a comparison in which a side did not sample what it was told to."""
    if tokens != task.tokens:
        raise SystemExit(f"A side sampled {tokens} tokens and was asked for {task.tokens}.")
    return tokens
