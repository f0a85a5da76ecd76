"""Where a comparison keeps what belongs to a run, what is still to do for it, and who may work there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scoreline.config.compare.trials import Trial
from scoreline.errors import CheckpointError
from scoreline.reports.compare.arms import PROBE

Stage = Literal["train", "probe"]
"""What is done for a run: it is trained, and then its last checkpoint is measured, where that is asked for."""


@dataclass(frozen=True)
class Files:
    """The files of a comparison's runs; `probe` is the recipe of the measurement that each of them gets."""

    folder: Path
    probe: str | None = None

    def recipe(self, trial: Trial, stage: Stage = "train") -> Path:
        end = ".toml" if stage == "train" else ".probe.toml"
        return self.folder / "recipes" / f"{trial.name}{end}"

    def log(self, trial: Trial) -> Path:
        return self.folder / "logs" / f"{trial.name}.txt"

    def failure(self, trial: Trial) -> Path:
        """Why the run failed when it was last tried."""
        return self.folder / "logs" / f"{trial.name}.failed.txt"

    def failed(self, trial: Trial) -> str | None:
        """Why the run did not come to its end; None for one that did, or was not tried."""
        file = self.failure(trial)
        return file.read_text(encoding="utf-8").strip() if file.is_file() and not trained(trial) else None

    def stages(self, trial: Trial) -> list[Stage]:
        """What is still to do."""
        missing: dict[Stage, bool] = {"train": not trained(trial), "probe": not self._probed(trial)}
        return [stage for stage, lacking in missing.items() if lacking]

    def _probed(self, trial: Trial) -> bool:
        """Whether the run was measured as is asked now."""
        recipe = self.recipe(trial, "probe")
        asked = recipe.read_text(encoding="utf-8") if recipe.is_file() else None
        return self.probe is None or (asked == self.probe and (trial.folder / PROBE).is_file())


def trained(trial: Trial) -> bool:
    """Whether the run came to its end: it has a summary."""
    return (trial.folder / "summary.json").is_file()


@contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Only one at a time works on a comparison; its runs hold the lock too, so that one that was left alone is seen.

    Raises `CheckpointError` when somebody does. Where the system has no such locks (Windows) nobody is kept out.
    """
    if sys.platform == "win32":
        yield None
        return
    import fcntl

    with (folder / ".lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                "Somebody is at work on this comparison: another command, or a run that one left behind.",
                got=str(folder),
                todo="wait until it has ended, or end it.",
            ) from error
        yield file.fileno()
