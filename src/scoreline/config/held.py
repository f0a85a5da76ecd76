"""A run has its folder for itself while it is at work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scoreline.errors import ConfigError


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody else who asks has it. What was made for it and holds nothing afterwards is removed."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    make(folder)
    try:
        with locked(folder):
            yield
    finally:
        remove(missing)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The system forgets the lock with the process, however that ends. Windows and some network disks have none: there
    nobody is kept out.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)  # which no process that this one starts gets
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "Another run is at work in this folder.",
                got=str(folder),
                accepted="one run at a time",
                todo="wait until it has ended, or end it; or set name=... for a run beside it.",
            ) from error
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def make(folder: Path) -> None:
    """A folder that the disk refuses is told in words."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "The run's folder cannot be made.",
            got=f"{folder}: {error.strerror}",
            accepted="a place on a disk that this user may write",
            todo="set folder=... to such a place.",
        ) from error


def remove(places: list[Path]) -> None:
    """Those that are empty."""
    with suppress(OSError):
        for place in places:
            place.rmdir()
