"""The judges of a run: reward models that its rewards name, and the one that goes on learning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoreline.config.run import Judge, Run
from scoreline.environments.remember import Remembered
from scoreline.environments.rewards import RewardSpec
from scoreline.environments.verify import RewardFunction
from scoreline.errors import ConfigError
from scoreline.models.judges import OutcomeJudge, ProcessJudge, load_judge

OWN = "judge"
"""The name by which rewards call the judge of the table [judge]."""

LOADING = ("device", "precision", "batch_size")
"""The options of a reward that names a reward model."""

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
Kind = OutcomeJudge | ProcessJudge


@dataclass(frozen=True)
class Jury:
    """Loaded judges by the names that rewards use; `remembered` are the same ones with what they said before."""

    loaded: Mapping[str, Kind]
    remembered: Mapping[str, Remembered]

    @property
    def own(self) -> Kind:
        """The judge of the table [judge]."""
        return self.loaded[OWN]

    def functions(self) -> dict[str, RewardFunction]:
        """What the scorer calls."""
        return {**self.loaded, **self.remembered}

    def forget(self) -> None:
        """What was said in a run that this one does not go on from."""
        for judge in self.remembered.values():
            judge.forget()

    def learned(self, times: int) -> None:
        """The own judge has learned so many times: what it said before counts no more."""
        if OWN in self.remembered:
            self.remembered[OWN].version = times


def load_jury(run: Run, memory: Path | None) -> Jury:
    """Every judge that a reward of the run names, each once. With `memory`, a folder, they remember there."""
    whole, steps = named((*run.reward, *run.eval.reward)), named(run.step_reward)
    specs = {name: spec for name, spec in (whole | steps).items() if name != OWN}
    loaded: dict[str, Kind] = {name: load_named(name, spec, run.model.device) for name, spec in specs.items()}
    if OWN in whole | steps:
        loaded[OWN] = load_own(run)
    elif run.judge is not None:
        raise ConfigError(
            "There is a [judge], but no reward asks it.",
            got=f"judge.path={run.judge.path!r}",
            accepted='[[reward]] or [[step_reward]] with function = "judge"',
            todo="add the reward, or remove the table [judge].",
        )
    for names, kind in ((whole, "outcome"), (steps, "process")):
        for name in names:
            _check_kind(name, loaded[name].kind, kind)
    files = {} if memory is None else {name: memory / f"{number}.jsonl" for number, name in enumerate(loaded)}
    return Jury(loaded, {name: Remembered(loaded[name], loaded[name].kind, file) for name, file in files.items()})


def named(specs: Sequence[RewardSpec]) -> dict[str, RewardSpec]:
    """The specs that name a judge: "judge", a folder with a config.json, or an id such as "owner/name"."""
    return {spec.function: spec for spec in specs if isinstance(spec.function, str) and _is_judge(spec.function)}


def _is_judge(name: str) -> bool:
    folder = (Path(name) / "config.json").is_file()
    return name == OWN or folder or (HUB_ID.fullmatch(name) is not None and not Path(name).exists())


def load_named(name: str, spec: RewardSpec, device: str) -> Kind:
    """The reward model that a reward names; its options say how it is loaded."""
    told = {key: spec.options[key] for key in LOADING if key in spec.options}
    if unknown := set(spec.options) - set(LOADING):
        raise ConfigError(
            f"The reward model {name!r} has no option {min(unknown)!r}.",
            got=dict(spec.options),
            accepted=", ".join(LOADING),
        )
    return load_judge(name, **{"device": device, **told})


def load_own(run: Run) -> Kind:
    """The judge of the table [judge]."""
    if run.judge is None:
        raise ConfigError(
            'A reward names "judge", but there is no [judge].',
            accepted="a table [judge] with a path, or a reward model's folder as the function",
            todo='add [judge] path = "FOLDER".',
        )
    judge: Judge = run.judge
    return load_judge(judge.path, device=judge.device, precision=judge.precision, batch_size=judge.batch_size)


def _check_kind(name: str, got: str, wanted: str) -> None:
    if got != wanted:
        table = "[[reward]] scores whole answers" if wanted == "outcome" else "[[step_reward]] scores steps"
        raise ConfigError(
            "The judge's head does not fit.",
            got=f"{name}: a judge of {'steps' if got == 'process' else 'whole answers'}",
            accepted=f"{table}: a judge of {'whole answers' if wanted == 'outcome' else 'steps'}",
            todo="name it in the other table, or train the other kind with `scoreline reward-model`.",
        )
