"""Runs that are there already, as arms to compare: nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scoreline.errors import ConfigError
from scoreline.reports.compare.arms import Arm, Trial, common, read_trial
from scoreline.reports.compare.settings import ASIDE, differing, refuse_unlike
from scoreline.reports.history import read_history


def arms_of(folders: Sequence[Path], allow: Sequence[str] = ()) -> list[Arm]:
    """Runs of one recipe with several seeds are one arm. Raises `ConfigError` for runs that cannot be compared."""
    arms: list[Arm] = []
    for folder in folders:
        trial = _trial(folder)
        if trial.history is None:
            raise ConfigError("This run cannot be compared.", got=f"{folder}: {trial.failed}")
        mine = Arm(folder.name, "", trial.history.config, (trial,))
        twin = next((i for i, arm in enumerate(arms) if _joins(arm, mine)), None)
        if twin is None:
            arms.append(mine)
        else:
            arms[twin] = replace(arms[twin], trials=(*arms[twin].trials, trial))
    if len(arms) < 2:
        got = f"{len(folders)} runs of one recipe" if len(folders) > 1 else "one run"
        raise ConfigError("There is nothing to compare.", got=got, accepted="runs of at least two recipes")
    named = _distinct([replace(arm, name=common([trial.folder.name for trial in arm.trials])) for arm in arms])
    refuse_unlike({arm.name: arm.config for arm in named}, allow)
    return _aligned(named)


def _trial(folder: Path) -> Trial:
    seed: Any = read_history(folder).config.get("seed", 0)
    return read_trial(folder.resolve(), int(seed))


def _joins(arm: Arm, other: Arm) -> bool:
    """Whether a run is the same arm with another seed."""
    new = other.trials[0].seed not in {trial.seed for trial in arm.trials}
    return new and not differing({"arm": arm.config, "other": other.config}, ASIDE)


def _distinct(arms: Sequence[Arm]) -> list[Arm]:
    """Names that two arms share get the algorithm, and then a number."""
    names: list[str] = []
    for arm in arms:
        wanted = [arm.name, f"{arm.name}-{arm.config.get('algorithm')}"]
        wanted += [f"{arm.name}-{number}" for number in range(2, len(arms) + 2)]
        names.append(next(name for name in wanted if name not in names))
    return [replace(arm, name=name, title=name) for arm, name in zip(arms, names, strict=True)]


def _aligned(arms: Sequence[Arm]) -> list[Arm]:
    """The same seeds in the same order in all arms; a run that is not there has failed."""
    seeds = sorted({trial.seed for arm in arms for trial in arm.trials})
    return [replace(arm, trials=tuple(_of_seed(arm, seed) for seed in seeds)) for arm in arms]


def _of_seed(arm: Arm, seed: int) -> Trial:
    lacking = Trial(seed, arm.trials[0].folder, None, f"there is no run with seed {seed}")
    return next((trial for trial in arm.trials if trial.seed == seed), lacking)
