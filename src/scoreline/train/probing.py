"""A policy as it stands: batches of fresh answers, and what is measured on them while nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scoreline.objectives.divergences import divergence
from scoreline.rollout.collect import PROBE, Encoded, Sampler
from scoreline.rollout.engine import Sampling
from scoreline.rollout.sampling import uniforms
from scoreline.train.collate import collate
from scoreline.train.evaluate import Evaluator, ordered
from scoreline.train.learner import LocalLearner
from scoreline.train.noise import flattened, gradient_noise, products, versus
from scoreline.types import Batch, Rollout


@dataclass(frozen=True)
class Asked:
    """The batches of a probe: so many questions, drawn for each batch alone, with so many answers each.

    Neither questions nor answers share a random number with training, or with another batch.
    """

    sampler: Sampler
    questions: Sequence[Encoded]
    sampling: Sampling
    prompts: int
    num_generations: int
    seed: int

    def rollouts(self, number: int) -> list[Rollout]:
        """The scored answers of batch `number`."""
        order = np.argsort(uniforms((self.seed, PROBE, 0, number), len(self.questions)), kind="stable")
        places = [int(place) for place in order[: self.prompts]]
        streams = [(self.seed, PROBE, 1, number, place) for place in places]
        asked = [self.questions[place] for place in places]
        return self.sampler.rollouts(asked, streams, self.num_generations, self.sampling)


@dataclass(frozen=True)
class Measured:
    """An objective whose policy gradient is measured, on rewards scale r + shift."""

    learner: LocalLearner
    scale: float = 1.0
    shift: float = 0.0

    def gradient(self, batch: Batch) -> Float[Tensor, " w"]:
        """The gradient of the loss of one optimiser step on the whole batch, made by the policy that sampled it."""
        objective = self.learner.objective
        rewards = torch.where(batch.rewarded, self.scale * batch.rewards + self.shift, batch.rewards)
        batch = self.learner.annotate(replace(batch, rewards=rewards), objective.passes(updates=1))
        batch = objective.estimate(batch)
        return flattened(self.learner.gradient(replace(batch, weights=objective.aggregate(batch.mask))))


@dataclass(frozen=True)
class Probing:
    """Measures the gradients of each objective, KL(pi || pi_0), and rewards against the truth, on the same answers.

    `walk` is the policy with the run's first model as its reference. `evaluator` knows what is right, if anything does.
    """

    asked: Asked
    measured: Mapping[str, Measured]
    walk: LocalLearner
    evaluator: Evaluator | None
    mask_truncated: bool = False

    def measure(self, batches: int, advance: Callable[[int], None]) -> dict[str, Any]:
        """The probe's sizes, `noise` of each objective, `kl` and `samples`."""
        gradients: dict[str, list[Tensor]] = {name: [] for name in self.measured}
        walked, seen = [], []
        for number in range(batches):
            rollouts = self.asked.rollouts(number)
            batch = collate(rollouts, device=self.walk.device, mask_truncated=self.mask_truncated)
            for name, one in self.measured.items():
                gradients[name].append(one.gradient(batch))
            walked.append(self.distance(batch))
            seen += self.judged(rollouts)
            advance(1)
        noise = compared({name: products(many) for name, many in gradients.items()}, self.asked.seed)
        sizes = {"batches": batches, "prompts": self.asked.prompts, "num_generations": self.asked.num_generations}
        numbers = {"noise": noise, "kl": far(torch.cat(walked)), "samples": self.told(seen)}
        return {**sizes, "seed": self.asked.seed, **numbers}

    def distance(self, batch: Batch) -> Float[Tensor, "n 2"]:
        """sum_t KL_t of each answer with a token of its own, nats, and how many tokens those are.

        k3: its mean over answers is KL(pi || pi_0), as k1's, and no answer of it is below 0.
        """
        seen = self.walk.annotate(batch, frozenset({"logp_old", "logp_ref"}))
        assert seen.logp_old is not None
        assert seen.logp_ref is not None
        each = divergence(seen.logp_old, seen.logp_ref, "k3").where(batch.mask, 0.0).sum(1)
        return torch.stack([each, batch.mask.sum(1).to(each)], 1)[batch.mask.any(1)].double().cpu()

    def judged(self, rollouts: Sequence[Rollout]) -> list[tuple[float | None, bool, int]]:
        """Of each answer: its training score, whether it is right, its tokens."""
        checked = list(rollouts)
        if self.evaluator is not None and self.evaluator.judge is not None:
            checked = self.evaluator.sampler.rescored(rollouts)
        right = [self.evaluator is not None and self.evaluator.right(r) for r in checked]
        rows = zip(rollouts, right, strict=True)
        return [(r.reward.score, is_right, len(r.completion.token_ids)) for r, is_right in rows]

    def told(self, seen: Sequence[tuple[float | None, bool, int]]) -> dict[str, float | None]:
        """Mean reward and length; accuracy, and how often reward orders a right and a wrong answer as it should."""
        scores = [score for score, _, _ in seen]
        known = [score for score in scores if score is not None]
        facts: dict[str, float | None] = {"reward": fmean(known) if known else None}
        facts["mean_length"] = fmean(length for _, _, length in seen)
        if self.evaluator is None:
            return facts
        right = np.array([is_right for _, is_right, _ in seen], dtype=float)
        ordering = ordered(scores, right.reshape(-1, self.asked.num_generations))
        return facts | {"accuracy": float(right.mean()), "reward_orders": ordering}


def compared(of: Mapping[str, Float[Tensor, "b b"]], seed: int) -> dict[str, dict[str, Any]]:
    """The noise of each; of all but the first also `times`: variance and ratio as multiples of the first one's."""
    names = list(of)
    noise: dict[str, dict[str, Any]] = {name: asdict(gradient_noise(of[name], seed=seed)) for name in names}
    for name in names[1:]:
        variance, ratio = versus(of[name], of[names[0]], seed=seed)
        noise[name]["times"] = {"against": names[0], "variance": asdict(variance), "ratio": asdict(ratio)}
    return noise


def far(walked: Float[Tensor, "n 2"]) -> dict[str, Any]:
    """KL(pi || pi_0) in nats: the mean over answers of the sum over tokens, and per token."""
    total, tokens = walked.sum(0).tolist()
    return {"answer": total / max(len(walked), 1), "token": total / max(tokens, 1.0), "estimator": "k3"}
