"""Checkpoints that are whole or not there: temporary folder, fsync, manifest, rename."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scoreline.errors import CheckpointError

MANIFEST, STATE, RNG = "manifest.json", "state.json", "rng.safetensors"


class Kept(Protocol):
    """What a checkpoint holds: it writes its state into a folder, and takes exactly that state back."""

    def save(self, folder: Path) -> None: ...

    def restore(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run: `folder/step-000100/`, the newest `keep` of them, and `folder/best/`."""

    folder: Path
    keep: int = 2

    def save(self, step: int, kept: Kept, state: Mapping[str, Any], *, best: bool = False) -> Path:
        """Write one whole checkpoint, then drop those beyond `keep`."""
        name = "best" if best else f"step-{step:06d}"

        def fill(folder: Path) -> None:
            kept.save(folder)
            save_file(rng_state(), folder / RNG)
            (folder / STATE).write_text(json.dumps(dict(state), indent=1), encoding="utf-8")

        target = write_whole(self.folder / name, fill)
        for old in self.steps()[: -self.keep]:
            discard(old)
        return target

    def steps(self) -> list[Path]:
        """All visible step checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d{6,}", path.name))

    def newest(self) -> Path | None:
        """The newest checkpoint whose files are what its manifest says; a damaged one is passed over with a warning."""
        for path in reversed(self.steps()):
            fault = damage(path)
            if fault is None:
                return path
            warnings.warn(f"checkpoint {path} is damaged ({fault}); trying an older one", stacklevel=2)
        return None

    def restore(self, path: Path, kept: Kept) -> dict[str, Any]:
        """Put weights, optimiser and random state back; the loop's state as it was saved."""
        fault = damage(path)
        if fault is not None:
            raise CheckpointError(
                "This checkpoint is not what its manifest says.",
                got=f"{path}: {fault}",
                accepted="a folder whose files have the sizes and sha256 sums in manifest.json",
                todo="resume from another checkpoint of the run.",
            )
        kept.restore(path)
        set_rng_state(load_file(path / RNG))
        state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
        return state

    def clear(self) -> None:
        """Remove all checkpoints: a run that starts again must not be resumed from its predecessor's."""
        for path in [*self.steps(), *self.folder.glob("best")]:
            discard(path)

    def sweep(self) -> None:
        """Remove what a killed run left half-written or half-deleted."""
        for path in [*self.folder.glob(".tmp-*"), *self.folder.glob(".trash-*")]:
            shutil.rmtree(path, ignore_errors=True)


def write_whole(target: Path, fill: Callable[[Path], None]) -> Path:
    """Let `fill` write a folder that becomes visible at `target` only when all of it is on the disk."""
    temporary = target.parent / f".tmp-{target.name}-{os.getpid()}"
    try:
        with writing(target.parent):
            temporary.mkdir(parents=True)
            fill(temporary)
            (temporary / MANIFEST).write_text(json.dumps(manifest(temporary), indent=1), encoding="utf-8")
            for path in [*temporary.rglob("*"), temporary]:
                flush(path)
            if target.exists():
                discard(target)
            temporary.rename(target)
            flush(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What a disk refuses is a `CheckpointError`, in whichever process it refuses it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        free = shutil.disk_usage(place).free >> 20 if place.exists() else 0
        raise CheckpointError(
            "The checkpoint could not be written; the run stops, and the last whole checkpoint is untouched.",
            got=f"{error} ({free} MiB free at {place})",
            accepted="a writable disk with room for the weights and twice as much for the optimiser",
            todo="free some space, then go on with --resume.",
        ) from error


def discard(folder: Path) -> None:
    """Rename first, so that a kill in between leaves no visible half of a checkpoint."""
    trash = folder.parent / f".trash-{folder.name}-{os.getpid()}"
    shutil.rmtree(trash, ignore_errors=True)
    folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file, by its path inside the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": digest(path)} for path in files
    }


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"manifest.json: {error}"
    for name, entry in listed.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"] or digest(path) != entry["sha256"]:
            return f"{name} has changed"
    return None


def digest(path: Path) -> str:
    """Sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Fsync a file or, where the system can, a folder."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rng_state() -> dict[str, torch.Tensor]:
    """Torch's own generators. Sampling does not use them; a model with randomness of its own may."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state()} | {f"cuda.{i}": state for i, state in enumerate(cuda)}


def set_rng_state(state: Mapping[str, torch.Tensor]) -> None:
    """What `rng_state` gave."""
    torch.set_rng_state(state["cpu"])
    cuda = [tensor for name, tensor in state.items() if name.startswith("cuda.")]
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda[: torch.cuda.device_count()])
