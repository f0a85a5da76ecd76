"""The models of a run as processes of a Ray cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from scoreline.backends.cluster.budget import Budget
from scoreline.backends.cluster.channel import Channel
from scoreline.backends.cluster.connect import check_room, connected
from scoreline.backends.cluster.gang import GangLearner
from scoreline.backends.cluster.pool import RolloutPool
from scoreline.backends.cluster.process import NEWS, UNITS, Setting, nodes, places, spawn
from scoreline.backends.cluster.scorers import ScorerPool, ScoringProcess
from scoreline.backends.cluster.worker import Worker
from scoreline.backends.parity import PROBE_ANSWERS, PROBE_PROMPTS, PROBE_TOKENS, TOLERANCES, Probe
from scoreline.backends.runtime import Ray
from scoreline.backends.transfer import GLOO, NCCL, WholeTensors
from scoreline.backends.vllm import Serving, Vllm, VllmEngine
from scoreline.config.engine import make_engine
from scoreline.config.hosts import Here, Host, Ids, made_by, make_learner
from scoreline.config.jury import OWN, load_jury, named
from scoreline.config.room import check_rank, check_worker
from scoreline.config.run import Run, completed
from scoreline.environments.rewards import RewardSpec, Scorer
from scoreline.errors import ConfigError
from scoreline.models.load import cores
from scoreline.models.policy import Policy, load_policy
from scoreline.objectives.objective import Objective
from scoreline.rollout.collect import Scores
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.train.learner import Learner, LocalLearner
from scoreline.train.ranks import Ranks
from scoreline.types import Request


@contextmanager
def hosting(run: Run, folder: Path, budget: Budget, say: Callable[[str], None]) -> Iterator[Callable[[], Host]]:
    """What loads the run's models, as often as it must; a cluster that the run started ends with it."""
    objective = completed(run)
    if isinstance(run.runtime, Ray):
        settings = run.runtime
        say(f"starting {settings.counted()} ...")
        with connected(settings) as ray:
            yield lambda: OnCluster(run, objective, ray, settings, folder, budget)
    else:
        yield lambda: Here(run, objective)


class OnCluster:
    """Processes of a Ray cluster. `ray` is the module, connected; `folder` the run's."""

    def __init__(self, run: Run, objective: Objective, ray: Any, settings: Ray, folder: Path, budget: Budget) -> None:
        self.run, self.ray, self.settings, self.budget = rooted(run), ray, settings, budget
        self.gpus = gpus(ray, run.model.device)
        check_room(ray, settings, self.gpus)
        self.setting = Setting(
            "", run.model.device, settings.threads or threads(settings), run.seed, str(folder.resolve())
        )
        self.transfer = WholeTensors()
        learner = partial(make_rank, self.run, objective)
        plan = run.train
        portion = None if plan.gradient_sums == "fp32" or plan.micro_batch_size == "auto" else plan.micro_batch_size
        self.gang = GangLearner(ray, settings, learner, self.transfer, self.setting, self.gpus, portion)
        self.policy = self.gang.outline
        self.pool: RolloutPool | None = None
        self.scorers: ScorerPool | None = None
        self.group: Any = None
        self.desk: Any = None

    def join(self, questions: Sequence[Ids]) -> tuple[GangLearner, RolloutPool]:
        """The pool asks the gang for its weights."""
        told, asked = self.settings, list(dict.fromkeys(questions))[:PROBE_PROMPTS]
        self.group = places(self.ray, told.rollouts, "SPREAD", self.gpus, told.timeout)
        channel = self.channel()
        serving = Serving(None if channel is None else channel.backend, told.at_once, told.in_flight)
        self.make = partial(make_worker, self.run, asked, serving)
        unit = told.unit or (None if told.rollouts == 1 else math.ceil(self.run.train.prompts_per_step / told.rollouts))
        probe = make_probe(self.run, self.gang, asked, streamed=channel is not None)
        self.pool = RolloutPool(self.ray, told, self.hire, self.gang.publish, probe, unit, self.budget, channel)
        self.pool.open()
        self.gang.beside = self.pool
        return self.gang, self.pool

    def channel(self) -> Channel | None:
        """What weights are streamed through, where they are."""
        engine, told = self.run.engine, self.settings
        stored = told.in_flight or not self.gpus if told.transfer == "auto" else told.transfer == "store"
        if not isinstance(engine, Vllm) or stored:
            return None
        precision = self.run.model.precision if engine.dtype == "auto" else engine.dtype
        backend = NCCL if self.gpus else GLOO
        self.gang.prepare(backend)
        return Channel(self.gang, backend, precision, told.timeout)

    def hire(self, number: int) -> Any:
        """A new rollout worker."""
        setting, homes = replace(self.setting, name=f"rollout-{number}"), nodes(self.ray, self.group)
        beside = [role.count(homes[number]) for role in (self.gang.nodes, homes)]
        return spawn(
            self.ray,
            Worker,
            (self.group, number),
            gpus=self.gpus,
            threads=setting.threads,
            arguments=(partial(self.make, *beside), self.transfer, setting),
            groups=threads_beside(self.settings),
        )

    def scores(self, scorer: Scorer) -> Scores:
        """As many processes as `runtime.scorers`, or this one."""
        told = self.settings
        if not told.scorers:
            return scorer
        self.desk = places(self.ray, told.scorers, "SPREAD", 0.0, told.timeout)
        self.scorers = ScorerPool(self.ray, self.recruit, told.scorers, told.timeout, self.budget)
        self.scorers.beside = self.pool
        self.scorers.open()
        return self.scorers

    def recruit(self, number: int) -> Any:
        """A new scorer."""
        setting = replace(self.setting, name=f"scorer-{number}")
        told = (partial(make_scores, self.run), setting)
        return spawn(self.ray, ScoringProcess, (self.desk, number), gpus=0.0, threads=setting.threads, arguments=told)

    def close(self) -> None:
        """End all processes of the run; the cluster stays."""
        if self.scorers is not None:
            self.scorers.close()
        if self.desk is not None:
            self.ray.util.remove_placement_group(self.desk)
        if self.pool is not None:
            self.gang.beside = None
            self.pool.close()
        if self.group is not None:
            self.ray.util.remove_placement_group(self.group)
        self.gang.close()


def make_rank(run: Run, objective: Objective, ranks: Ranks, learners: int = 1) -> LocalLearner:
    """The learner of one rank, in its own process, one of so many on its node, if its share fits there."""
    with made_by(run, ranks):
        check_rank(run, ranks.rank, learners)
        policy = load_policy(run.model)
    return make_learner(run, objective, policy, ranks)


def make_worker(
    run: Run,
    questions: Sequence[Ids],
    serving: Serving = Serving(),  # noqa: B008 - frozen
    learners: int = 0,
    rollouts: int = 1,
) -> tuple[Policy, LocalEngine | VllmEngine]:
    """The engine of a rollout worker, in its own process, and the policy whose weights it samples with; `serving` is
    for vLLM. Its node has so many learners, and workers, itself one of them.
    """
    check_worker(run, learners, rollouts)
    policy = load_policy(run.model)
    return policy, make_engine(run.engine, policy, run.sampling, questions, serving)


def make_scores(run: Run) -> Scorer:
    """The training's reward functions and judges, in a process of their own; evaluations are scored elsewhere."""
    judge = run.judge if OWN in named((*run.reward, *run.step_reward)) else None
    alone = replace(run, model=replace(run.model, device="cpu"), eval=replace(run.eval, reward=()), judge=judge)
    return Scorer(run.reward, judges=load_jury(alone, None).functions(), steps=run.step_reward, none=run.steps.none)


def make_probe(run: Run, learner: Learner, questions: Sequence[Ids], *, streamed: bool) -> Probe:
    """A few short answers, by which a worker shows that it has the learner's weights. A vLLM that weights go to through
    its own policy looks after `engine.probe_every` by itself; of streamed weights the learners have to say.
    """
    requests = [Request(ids, (-2, i, j)) for i, ids in enumerate(questions) for j in range(PROBE_ANSWERS)]
    budget = min(PROBE_TOKENS, run.sampling.max_completion_length)
    sampling: Sampling = replace(run.sampling, max_completion_length=budget)
    if not isinstance(run.engine, Vllm):
        return Probe(requests, sampling, learner, *TOLERANCES[run.model.precision])
    bounds, every = run.engine.tolerances(run.model), run.engine.probe_every if streamed else 0
    return Probe(requests, sampling, learner, *bounds, every, settable=True)


def rooted(run: Run) -> Run:
    """Paths that mean the same in a process that was started in another folder."""
    critic = run.critic if run.critic.path is None else replace(run.critic, path=absolute(run.critic.path))
    return replace(
        run,
        model=replace(run.model, path=absolute(run.model.path)),
        critic=critic,
        reward=located(run.reward),
        step_reward=located(run.step_reward),
        eval=replace(run.eval, reward=located(run.eval.reward)),
    )


def located(specs: Sequence[RewardSpec]) -> tuple[RewardSpec, ...]:
    """Rewards whose files, and whose judges' folders, have their whole paths."""
    judges = set(named(specs)) - {OWN}

    def place(function: str) -> str:
        file, colon, name = function.rpartition(":")
        if file.endswith(".py"):
            return f"{Path(file).resolve()}{colon}{name}"
        return absolute(function) if function in judges else function

    told = [spec.function if callable(spec.function) else place(spec.function) for spec in specs]
    return tuple(replace(spec, function=function) for spec, function in zip(specs, told, strict=True))


def absolute(path: str) -> str:
    """A folder by its whole path; an id as it is."""
    folder = Path(path).expanduser()
    return str(folder.resolve()) if folder.is_dir() else path


def threads(settings: Ray) -> int:
    """Of each process: the cores divided by those that compute at one time."""
    asynchronous = settings.max_staleness > 0
    busy = settings.learners + settings.rollouts if asynchronous else max(settings.learners, settings.rollouts)
    return max(1, cores() // busy)


def threads_beside(settings: Ray) -> dict[str, int]:
    """Of a rollout worker: those that wait for units, where it has several, and that take in weights meanwhile."""
    waiting = {UNITS: settings.at_once} if settings.at_once > 1 else {}
    return waiting | ({NEWS: 1} if settings.in_flight else {})


def gpus(ray: Any, device: str) -> float:
    """One for each process where the run may take one and the cluster has any."""
    has = float(ray.cluster_resources().get("GPU", 0.0))
    if device == "cpu" or (device == "auto" and not has):
        return 0.0
    if not has:
        raise ConfigError("The cluster has no GPU.", got=f"model.device={device}", todo="set model.device=auto.")
    return 1.0
