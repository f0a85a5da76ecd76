"""Runs from start to finish: train, fine-tune, evaluate, sample."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from scoreline.backends.cluster.budget import Budget
from scoreline.backends.cluster.process import WORKERS
from scoreline.backends.runtime import Ray
from scoreline.config.build import Built, assemble, build, check_plan
from scoreline.config.cluster import hosting
from scoreline.config.disk import check_disk
from scoreline.config.dump import dump
from scoreline.config.engine import check_engine, describe_engine
from scoreline.config.held import held
from scoreline.config.hosts import Host
from scoreline.config.room import check_memory
from scoreline.config.run import Run, SftRun
from scoreline.config.session import Session, sigterm_ends
from scoreline.environments.examples import load_examples
from scoreline.errors import CheckpointError, ConfigError, GangLostError
from scoreline.models.adapters import is_adapter
from scoreline.models.device import choose_device
from scoreline.models.load import machine_is_busy
from scoreline.models.memory import memory_told
from scoreline.models.policy import Model, load_policy
from scoreline.objectives.explain import FORMULA, explain
from scoreline.reports.console import LOG, Console
from scoreline.reports.doctor import Doctor
from scoreline.reports.history import read_history
from scoreline.reports.record import Record
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.train.checkpoint import Checkpoints, write_whole
from scoreline.train.evaluate import Evaluation
from scoreline.train.schedule import Progress, first_progress
from scoreline.train.sft import finetune as finetuning
from scoreline.types import Prompt, Request

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


def train(run: Run, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Train as the configuration says; the run's folder. A finished run that is resumed only writes its report.

    Where learners are processes of a cluster and one dies, all go on from the newest checkpoint.
    """
    folder = claim(run.folder, run.name, resume=resume, overwrite=overwrite)
    check_plan(run)
    check_engine(run.engine, run.sampling)
    check_memory(run)
    check_disk(run)
    budget = Budget(run.runtime.max_restarts, run.runtime.timeout) if isinstance(run.runtime, Ray) else Budget(0)
    console = Console(log=folder / LOG, samples_every=run.watch.samples_every)
    hosted = hosting(run, folder, budget, console.message)
    with held(folder), console.warnings(), hosted as host, sigterm_ends():  # after Ray, which sets one of its own
        while True:
            try:
                with opened(run, folder, console, host, resume=resume) as session:
                    resume = True  # what the folder holds is of this run now
                    session.go()
                return folder
            except GangLostError as error:
                budget.spend(str(error))
                where = "newest checkpoint" if resume else "beginning"
                console.warning(f"all learners start again from the {where}: {error}")


@contextmanager
def opened(run: Run, folder: Path, console: Console, host: Callable[[], Host], *, resume: bool) -> Iterator[Session]:
    """A session that can go. All processes of its parts end with it."""
    started = time.monotonic()
    torch.manual_seed(run.seed)  # sampling has streams of its own; this is for whatever else draws, as a new head does
    with closing(assemble(run, host(), folder / "judged")) as built:
        session = open_session(run, folder, console, built, started, resume=resume)
        busy = machine_is_busy()
        if busy is not None:
            console.warning(busy)
        with session.failure_noted(), memory_told():
            yield session


def open_session(run: Run, folder: Path, console: Console, built: Built, started: float, *, resume: bool) -> Session:
    """A session at step 0, or where the newest whole checkpoint left off."""
    record = Record(
        folder, every=run.watch.completions_every, answers=run.watch.completions_saved, pieces=built.policy.text.pieces
    )
    checkpoints = Checkpoints(folder / "checkpoints", keep=run.checkpoint.keep)
    (folder / "config.resolved.toml").write_text(dump(run), encoding="utf-8")
    record.objective(FORMULA, explain(built.parts.objective))
    here = "auto" if isinstance(run.runtime, Ray) else run.model.device  # a head node may have no GPU
    record.environment(describe_environment(here) | describe_engine(built.parts.engine))
    record.data(built.census)
    if built.policy.unaccelerated is not None:
        console.message(built.policy.unaccelerated)
    progress, best, wall_s, trained_s = first_progress(built.parts.objective, built.parts.warmup), -1.0, 0.0, 0.0
    checkpoints.sweep()
    if not resume:
        checkpoints.clear()
        built.jury.forget()
    newest = checkpoints.newest()
    if newest is not None:
        state = checkpoints.restore(newest, built)
        best, wall_s, trained_s = state.pop("best"), state.pop("wall_s"), state.pop("trained_s", 0.0)
        progress = Progress(**state)
        built.parts.engine.load(progress.step)
        built.jury.learned(progress.round)
        console.message(f"resuming {run.name} after step {progress.step}")
    record.rewind(-1 if newest is None else progress.step)
    doctor = Doctor(read_history(folder), run.train.steps)
    return Session(run, folder, built, console, record, checkpoints, progress, best, wall_s, started, doctor, trained_s)


def claim(root: str, name: str, *, resume: bool, overwrite: bool) -> Path:
    """The run's folder, if the name is a plain one and nothing would be lost."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            "A run name is one plain folder name.",
            got=repr(name),
            accepted="letters, digits, '.', '_' and '-', at most 120, the first a letter or digit",
            todo="set name='my-run'; the folder around it is `folder`.",
        )
    path = Path(root) / name
    if path.exists() and any(file.name not in (WORKERS, LOG) for file in path.iterdir()) and not (resume or overwrite):
        raise ConfigError(
            "A run of this name exists.",
            got=str(path),
            accepted="a new name, --resume or --overwrite",
            todo="go on with --resume, start again with --overwrite, or set name=...",
        )
    if resume and not path.exists():
        raise CheckpointError("There is no run to resume.", got=str(path), todo="leave out --resume.")
    return path


def finetune(run: SftRun, *, overwrite: bool = False) -> Path:
    """Supervised fine-tuning as the configuration says; the run's folder, with the model in `hf/`."""
    folder = claim(run.folder, run.name, resume=False, overwrite=overwrite)
    with held(folder):
        imitate(run, folder)
    return folder


def imitate(run: SftRun, folder: Path) -> None:
    """Load, fine-tune, and save."""
    torch.manual_seed(run.seed)  # a fresh adapter draws
    policy = load_policy(run.model, seed=run.seed)
    examples = load_examples(run.data)
    (folder / "config.resolved.toml").write_text(dump(run), encoding="utf-8")
    console, record = Console(log=folder / LOG), Record(folder)
    record.rewind(-1)
    record.environment(describe_environment(run.model.device))
    with console.progress("fine-tuning", run.sft.steps_for(len(examples))) as advance:
        for report in finetuning(policy, examples, run.sft, seed=run.seed):
            record.metrics(report.step, report.metrics)
            advance(1, f"loss {report.metrics['loss']:.4f}")
    write_whole(folder / "hf", policy.save)
    console.message(f"model:  {folder}/hf")


def evaluate(run: Run, model: str) -> Evaluation:
    """A model's accuracy on the recipe's held-out prompts, without training."""
    built = build(replace(run, model=replace(run.model, path=resolve_model(model))))
    try:
        if built.evaluator is None:
            raise ConfigError("There is nothing to evaluate on.", got="no held-out prompts", todo="set data.held_out.")
        return built.evaluator.evaluate(0)
    finally:
        built.close()


def sample(model: Model, prompts: Sequence[Prompt], n: int, sampling: Sampling, seed: int) -> list[list[str]]:
    """`n` answers to each prompt."""
    policy = load_policy(replace(model, path=resolve_model(model.path)))
    requests = [Request(policy.text.encode(p), (seed, i, j)) for i, p in enumerate(prompts) for j in range(n)]
    texts = [policy.text.decode(c.token_ids) for c in LocalEngine(policy).generate(requests, sampling)]
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def resolve_model(path: str) -> str:
    """The model folder that a path means: a run stands for its newest checkpoint, anything else for itself."""
    folder = Path(path)
    newest = Checkpoints(folder / "checkpoints").newest() if (folder / "checkpoints").is_dir() else None
    candidates = [newest / "hf" if newest is not None else folder / "hf", folder / "hf"]
    return next((str(c) for c in candidates if is_model(c)), path)


def is_model(folder: Path) -> bool:
    """Whether a model is there: a whole one, or an adapter."""
    return (folder / "config.json").is_file() or is_adapter(folder)


def describe_environment(device: str = "auto") -> dict[str, Any]:
    """What tells one machine from another: versions, device, threads."""
    packages = ("scoreline", "torch", "transformers", "safetensors", "numpy")
    versions: Mapping[str, str] = {name: importlib.metadata.version(name) for name in packages}
    chosen = choose_device(device)
    named = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else platform.processor() or platform.machine()
    return {
        "python": sys.version.split()[0],
        **versions,
        "system": f"{platform.system()} {platform.release()}",
        "device": f"{chosen} ({named})",
        "threads": torch.get_num_threads(),
    }
