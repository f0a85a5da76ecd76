"""Whether the disk has room for the checkpoints that a run keeps, before a model is loaded."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from scoreline.config.room import critic
from scoreline.config.run import Run
from scoreline.errors import CheckpointError
from scoreline.models.footprint import sketch
from scoreline.reports.preflight import size


@dataclass(frozen=True)
class Need:
    """What checkpoints take of a disk, in bytes: `most` of them at once, the largest `each`; `free` there is, with what
    checkpoints of the same runs take already.
    """

    most: int
    each: int
    free: int
    place: Path


def need(*runs: Run) -> Need:
    """Of runs that are made one after the other in folders of one disk."""
    each, folders = [checkpoint_bytes(run) for run in runs], [Path(run.folder, run.name).absolute() for run in runs]
    stay = sum(one * kept(run) for one, run in zip(each, runs, strict=True))
    most = stay + max(one * (written(run) > kept(run)) for one, run in zip(each, runs, strict=True))
    place = next(parent for parent in (folders[0], *folders[0].parents) if parent.is_dir())
    taken = sum(taken_by(folder / "checkpoints") for folder in folders)
    return Need(most, max(each), shutil.disk_usage(place).free + taken, place)


def check_disk(*runs: Run) -> None:
    """Raise `CheckpointError` where the disk of these runs' folders cannot take their checkpoints."""
    told = need(*runs)
    if told.most <= told.free:
        return
    raise CheckpointError(
        f"The checkpoints of {'the run' if len(runs) == 1 else f'{len(runs)} runs'} cannot fit on the disk.",
        got=f"{size(told.most)} at once, up to {size(told.each)} each, and {size(told.free)} free at {told.place}",
        accepted="room for a run's newest checkpoint.keep, for the best by checkpoint.best, and for one in writing",
        todo="free some space, set folder to a path on another disk, lower checkpoint.keep, or set "
        'checkpoint.best="none".',
    )


def taken_by(folder: Path) -> int:
    """Bytes of the files in a folder; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def checkpoint_bytes(run: Run) -> int:
    """4 P x (1 + AdamW's 2 moments), of policy and critic, and 4 P for a reference that is refreshed; 0 where the sizes
    are not known before loading. Moments of 8 bits are half of one array together.

    Of an adapter, which is small, nothing is counted.
    """
    policy = sketch(run.model)
    if policy is None or run.model.lora is not None:
        return 0
    learning = 1.5 if run.train.optimizer == "adamw_8bit" else 3.0
    refreshed = "logp_ref" in run.objective.needs and (run.reference.every is not None or run.rounds.count > 1)
    return int(policy.weights * (learning * (1 + critic(run)) + refreshed))


def written(run: Run) -> int:
    """How many checkpoints a run writes at most."""
    every = run.checkpoint.every
    return max(run.rounds.count, ceil(run.train.steps / every) if every else 1) + bests(run)


def kept(run: Run) -> int:
    """How many of them it leaves. One more is there in writing: an old one goes when the new one is whole."""
    return min(written(run) - bests(run), run.checkpoint.keep) + min(bests(run), 1)


def bests(run: Run) -> int:
    """How often the best checkpoint is written, at most: whenever held-out questions are asked after the first step."""
    if run.data.held_out == 0 or run.checkpoint.best is None:
        return 0
    return ceil(run.train.steps / run.eval.every) if run.eval.every else 1
