"""A comparison from its recipe to comparison.json: train what is missing, measure, set side by side."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scoreline.config.compare.files import Files, locked, trained
from scoreline.config.compare.found import arms_of
from scoreline.config.compare.processes import Ended, Workshop
from scoreline.config.compare.recipe import FILE, NAME, Budget, Comparison, written
from scoreline.config.compare.trials import Trial, changed, config_of, trials
from scoreline.config.disk import check_disk
from scoreline.config.dump import dump
from scoreline.config.session import Interrupted, stop_signals
from scoreline.errors import ConfigError, ScorelineError, suggest
from scoreline.models.device import choose_device
from scoreline.models.load import cores
from scoreline.reports import jsonl
from scoreline.reports.compare.arms import Arm, read_trial
from scoreline.reports.compare.comparison import Spent, summarise, write
from scoreline.reports.compare.curves import spent
from scoreline.reports.compare.page import write_comparison
from scoreline.reports.compare.table import table
from scoreline.reports.console import Console
from scoreline.train.plan import Plan


@dataclass(frozen=True)
class Compared:
    """What a comparison left: its folder, and the runs of this command that failed."""

    folder: Path
    failed: tuple[Ended, ...] = ()


def compare(comparison: Comparison, *, overwrite: bool = False, only: Sequence[str] = ()) -> Compared:
    """Make the runs that are missing, of all arms or `only` of some, and compare everything that is there.

    A run that came to its end is kept, one that did not goes on. Raises `ConfigError`, before the first run, for arms
    that cannot be trained or compared, and for runs that another recipe made, which `overwrite` makes again.
    """
    folder = Path(comparison.folder) / comparison.name
    wanted = trials(comparison, folder)
    chosen = choose(wanted, comparison, only)
    if not overwrite:
        refuse_changed(chosen)
    check_disk(*(trial.run for trial in chosen))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as lock:
        if overwrite:
            forget(chosen)
        jsonl.replace(folder / FILE, dump(written(comparison, folder)))
        (folder / "logs").mkdir(exist_ok=True)
        console = Console(log=folder / "logs" / "compare.txt")
        files = Files(folder, None if comparison.probe is None else dump(comparison.probe))
        failed = train(Workshop(files, jobs_of(comparison, wanted), comparison.threads, lock), chosen, console)
        arms = [_arm(comparison, arm.name, wanted, files) for arm in comparison.arm]
        conclude(comparison, folder, arms, spent_by(comparison.budget, wanted), console)
    return Compared(folder, failed)


def choose(wanted: Sequence[Trial], comparison: Comparison, only: Sequence[str]) -> list[Trial]:
    """The runs of the arms that are named, or all of them."""
    names = [arm.name for arm in comparison.arm]
    if unknown := [name for name in only if name not in names]:
        raise ConfigError("There is no such arm.", got=unknown[0], todo=suggest(unknown[0], names))
    return [trial for trial in wanted if not only or trial.arm in only]


def compare_found(
    folders: Sequence[Path], *, name: str | None = None, root: str = "comparisons", allow: Sequence[str] = ()
) -> Compared:
    """Compare runs that are there, at as many tokens as the shortest of them sampled."""
    arms = arms_of(folders, allow)
    named = name or "-against-".join(arm.name for arm in arms)[:80]
    if not NAME.fullmatch(named):
        raise ConfigError("A comparison has one plain name.", got=repr(named), todo="say --name.")
    seeds = tuple(trial.seed for trial in arms[0].trials)
    folder = Path(root) / named
    folder.mkdir(parents=True, exist_ok=True)
    told = Comparison(name=named, title=" against ".join(arm.name for arm in arms), seeds=seeds)
    conclude(told, folder, arms, Spent("tokens", cut=True), Console())
    return Compared(folder)


def train(workshop: Workshop, chosen: Sequence[Trial], console: Console) -> tuple[Ended, ...]:
    """Make what is missing of the chosen runs; those that failed. Raises `Interrupted` when told to stop."""
    files = workshop.files
    waiting = [trial for trial in chosen if files.stages(trial)]
    kept = len(chosen) - len(waiting)
    if kept:
        console.message(f"{kept} of {len(chosen)} runs are there already")
    failed: list[Ended] = []
    with stop_signals(console.message) as told, console.runs(len(chosen), done=kept) as advance:
        shares: dict[str, float] = {}

        def look(going: Sequence[Trial]) -> None:
            for trial in going if console.live else ():
                share = _share(trial)
                advance(share - shares.get(trial.name, 0.0))
                shares[trial.name] = share

        for ended in workshop.work(waiting, told, look):
            advance(1.0 - shares.pop(ended.trial.name, 0.0), _line(ended))
            failed += [ended] if ended.failed is not None else []
    if told:
        error = Interrupted("Stopped; what the runs have reached is kept.", todo="the same command goes on.")
        error.code = 128 + told[0]
        raise error
    return tuple(failed)


def conclude(comparison: Comparison, folder: Path, arms: Sequence[Arm], budget: Spent, console: Console) -> None:
    """comparison.json, comparison.html, and the table."""
    reasons = [trial.failed for arm in arms for trial in arm.trials if trial.failed is not None]
    if not any(arm.histories() for arm in arms):
        raise ScorelineError(
            "No run came to its end: there is nothing to compare.",
            got=reasons[0] if reasons else "no runs",
            todo=f"read {folder / 'logs'}, and start the same command again.",
        )
    for arm in arms:
        for history in arm.histories():
            used = max(spent(history, budget.kind).values())
            if budget.amount is not None and used < budget.amount:
                plan = f"{used:,.0f} of {budget.amount:,.0f} {budget.kind}"
                console.warning(f"{history.folder.name} ended by its steps after {plan}: all are compared there")
    title = comparison.title or comparison.name
    made = summarise(folder, comparison.name, title, budget, comparison.seeds, arms, comparison.claim)
    write(folder, made)
    console.message(f"\n{table(made)}\n")
    console.message(f"comparison: {write_comparison(folder)}")


def refuse_changed(chosen: Sequence[Trial]) -> None:
    """Raises `ConfigError` for a run that was made by another recipe."""
    for trial in chosen:
        if keys := changed(trial):
            raise ConfigError(
                "A run of this comparison was made by another recipe.",
                got=f"{trial.folder}: {', '.join(keys[:5])}{' ...' if len(keys) > 5 else ''} differ",
                accepted="the recipe that it was made by, or another name for the comparison",
                todo=f"make it again with --overwrite (with --only {trial.arm} no others), or set name=...",
            )


def forget(chosen: Sequence[Trial]) -> None:
    """Remove the runs that are to be made again."""
    for trial in chosen:
        shutil.rmtree(trial.folder, ignore_errors=True)


def jobs_of(comparison: Comparison, wanted: Sequence[Trial]) -> int:
    """Runs at a time: what the recipe says, one where a GPU computes, else as many as there are cores for."""
    if comparison.jobs is not None:
        return comparison.jobs
    if any(choose_device(trial.run.model.device).type != "cpu" for trial in wanted):
        return 1
    return max(1, cores() // comparison.threads)


def spent_by(budget: Budget, wanted: Sequence[Trial]) -> Spent:
    """The budget, and the settings that say nothing else."""
    amount = {"tokens": budget.tokens, "steps": budget.steps, "seconds": budget.seconds}[budget.kind]
    plan = {"tokens": ("max_tokens", "steps"), "steps": ("steps",), "seconds": ("max_seconds",)}[budget.kind]
    steps = float(wanted[0].run.train.steps) if budget.kind == "steps" else None
    return Spent(budget.kind, steps if amount is None else float(amount), aside=tuple(f"train.{key}" for key in plan))


def _arm(comparison: Comparison, name: str, wanted: Sequence[Trial], files: Files) -> Arm:
    """An arm with what is there of its runs."""
    told = next(arm for arm in comparison.arm if arm.name == name)
    mine = [trial for trial in wanted if trial.arm == name]
    read = tuple(read_trial(trial.folder, trial.seed, _unfit(trial, files)) for trial in mine)
    return Arm(name, told.title or name, config_of(mine[0].run), read)


def _unfit(trial: Trial, files: Files) -> str | None:
    keys = changed(trial)
    return f"made by another recipe: {', '.join(keys[:5])}" if keys else files.failed(trial)


def _share(trial: Trial) -> float:
    """How much of a run is over, by its last line of metrics."""
    if trained(trial):
        return 1.0
    row = jsonl.last(trial.folder / "metrics.jsonl")
    plan: Plan = trial.run.train
    if row is None:
        return 0.0
    return min(max(float(row["step"]) / plan.steps, plan.spent(int(row.get("num_tokens") or 0))), 1.0)


def _line(ended: Ended) -> str:
    how = "done" if ended.failed is None else f"failed, {ended.failed}"
    return f"{ended.trial.name} {how}, {ended.seconds:.0f} s"
