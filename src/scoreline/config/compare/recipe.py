"""The recipe of a comparison: arms x seeds at an equal budget, and the claims that it puts to the test."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from scoreline.config.load import load
from scoreline.config.probe import Probe
from scoreline.config.recipe import read as tables_of
from scoreline.errors import ConfigError
from scoreline.reports.compare.claims import START, Claim
from scoreline.reports.compare.curves import Kind

FILE = "comparison.toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Budget:
    """What every run may spend: sampled tokens, steps, or seconds of training. One of the three, or none of them, and
    the recipes' own steps are it.

    Tokens are the fair measure where answers grow: an arm with longer ones then makes fewer steps.
    """

    tokens: int | None = None
    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        said = {name: value for name, value in vars(self).items() if value is not None}
        if len(said) > 1:
            raise ConfigError("A comparison has one budget.", got=said, accepted="tokens, steps or seconds")
        for name, value in said.items():
            if not 0 < value < math.inf:
                raise ConfigError(f"budget.{name} is an amount.", got=value, accepted="above 0")

    @property
    def kind(self) -> Kind:
        return "tokens" if self.tokens is not None else "seconds" if self.seconds is not None else "steps"


@dataclass(frozen=True)
class Arm:
    """One way to train: recipe files merged over the common ones, and `key=value` changes over those."""

    name: str
    title: str = ""
    recipe: tuple[str, ...] = ()
    set: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Every arm is trained with every seed. `comparisons/name/` holds all that it leaves.

    An arm's recipe is `recipe`, its own files, `set`, its own `set`, from the general to the special. Files are told
    from the comparison's own, everything inside them from where the command runs. `allow` names settings that may
    differ although they decide what is measured. `probe` is measured of every run that has ended. `jobs` runs go on at
    a time, each on `threads` threads; left out, as many as there are cores for, on a GPU one.
    """

    name: str = ""
    title: str = ""
    folder: str = "comparisons"
    recipe: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    budget: Budget = field(default_factory=Budget)
    arm: tuple[Arm, ...] = ()
    claim: tuple[Claim, ...] = ()
    allow: tuple[str, ...] = ()
    probe: Probe | None = None
    jobs: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        for name, count in (("jobs", self.jobs), ("threads", self.threads)):
            if count is not None and count < 1:
                raise ConfigError(f"{name} is a number of them.", got=count, accepted="at least 1")
        if not self.seeds or len({*self.seeds}) < len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError("seeds are different numbers.", got=list(self.seeds), accepted="such as [0, 1, 2, 3, 4]")


def read(file: Path, overrides: Sequence[str] = ()) -> Comparison:
    """A comparison's file. `key=value` of one of its own keys changes it, of any other key every run."""
    if "arm" not in tables_of(file):
        raise _nothing(f"{file}, which has no [[arm]]")
    own = {one.name for one in fields(Comparison)}
    mine = [text for text in overrides if text.partition("=")[0].strip().split(".")[0] in own]
    comparison = load(Comparison, [file], mine)
    theirs = tuple(text for text in overrides if text not in mine)
    arms = tuple(replace(arm, recipe=_from(file, arm.recipe), set=(*arm.set, *theirs)) for arm in comparison.arm)
    named = replace(comparison, name=comparison.name or file.stem, recipe=_from(file, comparison.recipe), arm=arms)
    return checked(named)


def written(comparison: Comparison, folder: Path) -> Comparison:
    """The same comparison with its files told from `folder`, as its recipe lies there."""

    def told(files: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(Path(os.path.relpath(file, folder)).as_posix() for file in files)

    arms = tuple(replace(arm, recipe=told(arm.recipe)) for arm in comparison.arm)
    return replace(comparison, recipe=told(comparison.recipe), arm=arms)


def short(
    files: Sequence[Path],
    overrides: Sequence[str],
    arms: Sequence[str],
    *,
    seeds: int,
    budget: Budget,
    name: str | None,
) -> Comparison:
    """A comparison as the command line says it: recipes for all, and for each arm a recipe or settings in one text."""
    made = tuple(_arm(text) for text in arms)
    return checked(
        Comparison(
            name=name or "-against-".join(arm.name for arm in made)[:80],
            title=" against ".join(arm.title for arm in made),
            recipe=tuple(map(str, files)),
            set=tuple(overrides),
            seeds=tuple(range(seeds)),
            budget=budget,
            arm=made,
        )
    )


def checked(comparison: Comparison) -> Comparison:
    """The comparison, if its names are plain, its arms are several, and its claims are about them."""
    names = [arm.name for arm in comparison.arm]
    for name in (comparison.name, *names):
        if not NAME.fullmatch(name) or name == START:
            accepted = "letters, digits, '.', '_' and '-', at most 80, the first a letter or digit; not \"start\""
            raise ConfigError("An arm or a comparison has one plain name.", got=repr(name), accepted=accepted)
    if len(names) < 2 or len({*names}) < len(names):
        raise _nothing(f"arms {', '.join(names)}" if names else "no arms")
    for claim in comparison.claim:
        for place, said, known in (("arm", claim.arm, names), ("against", claim.against, [*names, START])):
            if said is not None and said not in known:
                got = f"{place} = {said!r} in {claim.text!r}"
                raise ConfigError("A claim is about arms of its comparison.", got=got, accepted=", ".join(known))
    return comparison


def _nothing(got: str) -> ConfigError:
    return ConfigError(
        "There is nothing to compare.",
        got=got,
        accepted="at least two [[arm]] with different names",
        todo="add them to the recipe, or say them: --arms algorithm=naive algorithm=grpo",
    )


def _from(file: Path, others: Sequence[str]) -> tuple[str, ...]:
    """Files that are told from where `file` lies."""
    return tuple(str(file.parent / other) for other in others)


def _arm(text: str) -> Arm:
    """`algorithm=naive` is the arm naive, `recipes/mine.toml train.steps=5` is mine-5."""
    words = shlex.split(text)
    files = tuple(word for word in words if "=" not in word or Path(word).is_file())
    changes = tuple(word for word in words if word not in files)
    said = [Path(file).stem for file in files] + [_short(change) for change in changes]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(said)).strip("-._")[:80]
    return Arm(name, text, files, changes)


def _short(change: str) -> str:
    """`algorithm=naive` is naive, `objective.kl.beta=0.1` is beta-0.1."""
    key, _, value = change.partition("=")
    return value if key == "algorithm" else f"{key.split('.')[-1]}-{value}"
