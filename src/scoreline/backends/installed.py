"""Whether an optional library is there, of a tested version, beside versions of others that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from scoreline.errors import EngineError


def installed(names: Sequence[str], todo: str) -> tuple[str, str]:
    """The first of these distributions that is installed, and its version; an `EngineError` where none is."""
    for name in names:
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise EngineError(f"{names[0]} is not installed.", accepted=" or ".join(names), todo=todo)


def check_distribution(name: str, version: str, tested: SpecifierSet, *, beside: Sequence[str]) -> None:
    """Refuse a version outside `tested`, or beside a version of another library that it does not take itself."""
    if version not in tested:
        raise EngineError(
            f"This version of {name} was never tested here.",
            got=f"{name} {version}",
            accepted=f"{name} {tested}",
            todo=f"pip install '{name}{tested}'",
        )
    for wanted in map(Requirement, metadata.requires(name) or ()):
        needed = wanted.name in beside and (wanted.marker is None or wanted.marker.evaluate())
        if needed and not wanted.specifier.contains(metadata.version(wanted.name), prereleases=True):
            raise EngineError(
                f"This version of {wanted.name} does not go with {name} {version}.",
                got=f"{wanted.name} {metadata.version(wanted.name)}",
                accepted=f"{wanted.name} {wanted.specifier}",
                todo=f"pip install '{wanted}', in an environment of its own.",
            )
