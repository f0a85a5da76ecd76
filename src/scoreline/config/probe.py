"""From a run's folder to what is measured of one of its checkpoints; the run's own files stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scoreline.config.build import BuiltHere, build
from scoreline.config.export import RESOLVED, schema_of
from scoreline.config.load import ALGORITHMS, load
from scoreline.config.recipe import read
from scoreline.config.run import Run, completed
from scoreline.errors import CheckpointError, ConfigError, suggest
from scoreline.models.critic import Critic, make_critic
from scoreline.models.policy import Policy
from scoreline.models.rows import part_files
from scoreline.objectives.objective import Objective
from scoreline.reports import jsonl
from scoreline.reports.console import Console
from scoreline.train.checkpoint import Checkpoints
from scoreline.train.keeping import CRITIC, Keeper
from scoreline.train.learner import LocalLearner
from scoreline.train.noise import taken
from scoreline.train.probing import Asked, Measured, Probing
from scoreline.train.ranks import ALONE

FILE, START, OWN = "probe.json", "start", "own"


@dataclass(frozen=True)
class Line:
    """An objective to measure, in the words of a recipe: `Line("group", ("algorithm=rloo", "objective.kl=none"))`.

    Without words it is the run's own. Its rewards are scale r + shift. `critic` names another checkpoint of the run
    whose critic it asks, instead of the measured one's: a score line that lags behind.
    """

    name: str
    set: tuple[str, ...] = ()
    scale: float = 1.0
    shift: float = 0.0
    critic: str | None = None


@dataclass(frozen=True)
class Probe:
    """What to measure, of the newest checkpoint or of one that is named; "start" is the run's first model.

    A batch has `prompts` questions (left out: prompts_per_step of the run) with as many answers each as in the run. All
    are drawn by `seed` (left out: the run's), and all lines see the same ones. The first line is what the others are
    compared with; without any it is the run's own objective.
    """

    batches: int = 32
    prompts: int | None = None
    checkpoint: str | None = None
    seed: int | None = None
    line: tuple[Line, ...] = (Line(OWN),)

    def __post_init__(self) -> None:
        names = [line.name for line in self.line]
        if not names or len(set(names)) < len(names):
            raise ConfigError("Every line to measure has a name of its own.", got=names, accepted="one or more names")
        taken(self.batches, 0, 0)  # refuses too few
        if self.prompts is not None and self.prompts < 1:
            raise ConfigError("probe.prompts is a number of questions.", got=self.prompts, accepted="at least 1")


def named(names: Sequence[str]) -> tuple[Line, ...]:
    """Algorithms by their names; "own" is the run's."""
    for name in names:
        if name not in (*ALGORITHMS, OWN):
            raise ConfigError("Unknown algorithm.", got=name, todo=suggest(name, (*ALGORITHMS, OWN)))
    return tuple(Line(name, () if name == OWN else (f"algorithm={name}",)) for name in names)


def probe(folder: Path, told: Probe | None = None, console: Console | None = None) -> dict[str, Any]:
    """Measure, and write `probe.json` into the folder, over what an earlier probe wrote; what it says.

    `checkpoint`, `step`, `batches`, `prompts`, `num_generations`, `seed`, `noise` of each line, `skipped` (a line and
    why), `kl`, `samples`. The same checkpoint and the same seed give the same numbers.
    """
    told, console = told or Probe(), console or Console()
    run, place = recorded_run(folder), find(folder, told.checkpoint)
    objectives = {line.name: objective_of(folder, line) for line in told.line}
    torch.manual_seed(run.seed)  # for whatever draws when it is made, as an adapter does
    built = build(run)
    try:
        first, step = built.policy.frozen(), restored(built, place)
        bench = Bench(run, built, first)
        critics = {line.name: bench.critic(critic_folder(folder, line)) for line in told.line}
        skipped = {name: why for name in objectives if (why := bench.lacks(objectives[name], critics[name]))}
        for name, why in skipped.items():
            console.warning(f"{name} is not measured: {why}")
        kept = {line.name: line for line in told.line if line.name not in skipped}
        measured = {name: bench.measured(line, objectives[name], critics[name]) for name, line in kept.items()}
        with console.progress("probing", told.batches) as advance:
            numbers = bench.probing(told, measured).measure(told.batches, advance)
    finally:
        built.close()
    head = {"checkpoint": START if place is None else place.name, "step": step}
    facts: dict[str, Any] = jsonl.finite({**head, **numbers, "skipped": skipped})
    jsonl.replace(folder / FILE, jsonl.encode(facts, indent=2) + "\n")
    return facts


@dataclass(frozen=True)
class Bench:
    """The parts of a run with a checkpoint's weights, and the run's first model."""

    run: Run
    built: BuiltHere
    first: Policy

    def critic(self, given: Path | None) -> Critic | None:
        """The run's own critic, or one with the weights in a folder."""
        if given is None:
            return self.built.learner.critic
        remote, lora = self.run.model.trust_remote_code, self.run.model.lora
        made = make_critic(self.run.critic, self.built.policy, trust_remote_code=remote, lora=lora)
        Keeper(given, ALONE).restore_weights(CRITIC, made.weights())
        return made

    def lacks(self, objective: Objective, critic: Critic | None) -> str | None:
        """Why an objective cannot be measured on this run."""
        if "values" in objective.needs and critic is None:
            return "it needs a critic, and the run trained none"
        if objective.grouped and self.run.train.num_generations < 2:
            return "it needs a group, and the run gives one answer to a question"
        return None

    def measured(self, line: Line, objective: Objective, critic: Critic | None) -> Measured:
        """One line, ready to be measured."""
        reference = self.built.learner.reference or self.first
        return Measured(self._learner(objective, reference, critic), line.scale, line.shift)

    def probing(self, told: Probe, measured: Mapping[str, Measured]) -> Probing:
        """Everything that is measured."""
        run, source = self.run, self.built.parts.collector
        prompts = min(told.prompts or run.train.prompts_per_step, len(source.prompts))
        answers = run.train.num_generations
        seed = run.seed if told.seed is None else told.seed
        asked = Asked(source.sampler, source.prompts, run.sampling, prompts, answers, seed)
        walk = self._learner(self.built.parts.objective, self.first, self.built.learner.critic)
        return Probing(asked, measured, walk, self.built.evaluator, run.train.mask_truncated_completions)

    def _learner(self, objective: Objective, reference: Policy, critic: Critic | None) -> LocalLearner:
        return LocalLearner(
            self.built.policy,
            objective,
            reference=reference,
            critic=critic if "values" in objective.needs else None,
            micro_batch_size=self.run.train.micro_batch_size,
            temperature=self.run.sampling.temperature,
        )


def recorded_run(folder: Path) -> Run:
    """The recipe that a training run left."""
    file = folder / RESOLVED
    if file.is_file() and schema_of(read(file)) is Run:
        return load(Run, [file])
    got = f"{folder}: no {RESOLVED}" if not file.is_file() else f"{folder}: a run of another verb"
    raise CheckpointError("This is not a training run.", got=got, accepted="a folder that `scoreline train` wrote")


def objective_of(folder: Path, line: Line) -> Objective:
    """The run's objective with what the line says of it."""
    for text in line.set:
        if text.partition("=")[0].strip().split(".")[0] not in ("algorithm", "objective"):
            raise ConfigError(
                "A line changes the objective alone: all lines see the same answers.",
                got=f"{text}, in the line {line.name!r}",
                accepted="algorithm=... and objective....=...",
                todo="train another run, and probe that.",
            )
    return completed(load(Run, [folder / RESOLVED], line.set))


def find(folder: Path, name: str | None) -> Path | None:
    """The newest whole checkpoint of a run, or the one of this name; None is the run's first model."""
    checkpoints = Checkpoints(folder / "checkpoints")
    if name == START:
        return None
    if name is None:
        newest = checkpoints.newest()
        if newest is None:
            raise CheckpointError("The run has no whole checkpoint.", got=folder, todo='set checkpoint="start".')
        return newest
    names = sorted(p.parent.name for p in checkpoints.folder.glob("*/hf") if not p.parent.name.startswith("."))
    if name not in names:
        known = ", ".join([START, *names])
        raise CheckpointError("There is no such checkpoint.", got=name, accepted=known, todo=suggest(name, names))
    return checkpoints.folder / name


def critic_folder(folder: Path, line: Line) -> Path | None:
    """The folder whose critic a line asks: a checkpoint of this run, or any other folder with one."""
    if line.critic is None:
        return None
    places = [folder / "checkpoints" / line.critic, Path(line.critic)]
    found = next((place for place in places if part_files(place, CRITIC)), None)
    if found is None:
        known = ", ".join(sorted({path.parent.name for path in folder.glob("checkpoints/*/critic*.safetensors")}))
        raise CheckpointError("There is no such critic.", got=line.critic, accepted=known or "no checkpoint has one")
    return found


def restored(built: BuiltHere, place: Path | None) -> int:
    """The checkpoint's weights, critic, reference and judge in the parts; its step."""
    if place is None:
        return 0
    state = Checkpoints(place.parent).restore(place, built)
    step: int = state["step"]
    built.parts.engine.load(step)
    built.jury.learned(state["round"])
    return step
