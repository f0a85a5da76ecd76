"""What a step needs, before it is made: bytes at its peak and seconds, from sizes and a few measured rates.

peak = program + weights of all models + AdamW's moments + gradients + max(learning, sampling)
learning = activations(m) + logits(m)          sampling = working copy + keys and values(n, p + t) + drawing(n)
seconds = waves (prefill + (t - 1) token(n)) + tokens (annotate + iterations x learn) + updates x optimiser
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scoreline.models.footprint import Footprint
from scoreline.train.portions import Portion, Row

SLACK = 8
"""One part in so many comes on top for what the allocator keeps beyond what was asked of it (docs/preflight.md)."""


@dataclass(frozen=True)
class Largest:
    """The largest step that a run can make: its longest prompts, and answers that take the whole budget.

    `prompts` questions of `prompt` tokens with `answers` answers of `answer` tokens each, sampled `in_flight` at once,
    learned from in `iterations` passes of `minibatches` updates, a `portion` at a time.
    """

    prompts: int
    answers: int
    prompt: int
    answer: int
    in_flight: int
    portion: Portion
    iterations: int = 1
    minibatches: int = 1
    packed: bool = True

    @property
    def rows(self) -> int:
        """Answers of a step."""
        return self.prompts * self.answers

    @property
    def flying(self) -> int:
        """Answers that are sampled at once."""
        return min(self.in_flight, self.rows)

    @property
    def tokens(self) -> int:
        """Tokens that a pass over the step computes."""
        return self._cost(self.rows)

    @property
    def at_once(self) -> int:
        """Rows of one portion."""
        rows = [Row(self.prompt, self.answer, i // self.answers) for i in range(-(-self.rows // self.minibatches))]
        return self.portion.cut(rows, packed=self.packed)[0]

    @property
    def tokens_at_once(self) -> int:
        """Tokens of one portion."""
        return self._cost(self.at_once)

    def halved(self) -> dict[str, Largest]:
        """The same step with one setting at half its value, by the setting's address in a recipe."""
        size = self.tokens_at_once if self.portion.unit == "tokens" else self.at_once
        smaller = {
            "train.prompts_per_step": replace(self, prompts=self.prompts // 2),
            "train.num_generations": replace(self, answers=self.answers // 2),
            "sampling.max_completion_length": replace(self, answer=self.answer // 2),
            "the prompts' length": replace(self, prompt=self.prompt // 2),
            "train.num_iterations": replace(self, iterations=self.iterations // 2),
            "train.minibatches": replace(self, minibatches=self.minibatches // 2),
            "engine.rows": replace(self, in_flight=self.flying // 2),
            "train.micro_batch_size": replace(self, portion=replace(self.portion, size=size // 2)),
        }
        return {name: step for name, step in smaller.items() if step.whole}

    @property
    def whole(self) -> bool:
        """Whether nothing of it is zero."""
        counts = (self.rows, self.prompt, self.answer, self.in_flight, self.portion.size)
        return min(*counts, self.iterations, self.minibatches) > 0

    def _cost(self, rows: int) -> int:
        listed = [Row(self.prompt, self.answer, i // self.answers) for i in range(rows)]
        return Portion(1, "tokens").cost(listed, packed=self.packed)


@dataclass(frozen=True)
class Held:
    """What memory holds through the whole run: the program itself, the policy, its reference, its critic."""

    program: int
    policy: Footprint
    reference: Footprint | None = None
    critic: Footprint | None = None
    moment: int = 8
    """Bytes of AdamW's two moments for each parameter that learns: 8, or 2 where they have 8 bits."""
    exact: bool = False
    """Whether gradients are summed in fp64, beside what they are in fp32."""

    def peak(self, step: Largest) -> dict[str, int]:
        """Bytes at the peak by what they are for; of learning and sampling the one that needs more."""
        learning, sampling = self._learning(step), self._sampling(step, step.flying)
        parts = self.always() | (learning if sum(learning.values()) >= sum(sampling.values()) else sampling)
        return parts | {"allocator": sum(parts.values()) // SLACK}

    def learner(self, step: Largest, ranks: int) -> int:
        """Bytes at the peak of one of so many learners, which hold the models' rows together. An adapter's frozen
        weights stay whole, and so do sums in fp64.
        """
        shared = 1 if self.policy.learned is not None else ranks
        held = self.always()
        whole = held.pop("program") + held.pop("fp64 sums", 0)
        return _slack(whole + sum(held.values()) // shared + sum(self._learning(step).values()))

    def first(self, step: Largest, ranks: int) -> int:
        """Bytes at the peak of the first of them: before it trains, its machine's memory has the whole policy.

        Reference and critic lie in the same memory until all are dealt out in rows.
        """
        if ranks == 1 or self.policy.learned is not None:
            return self.learner(step, ranks)
        weights = sum(model.weights for model in (self.policy, self.reference, self.critic) if model is not None)
        return max(self.learner(step, ranks), _slack(self.program + self.policy.weights + weights // ranks))

    def worker(self, step: Largest, workers: int) -> int:
        """Bytes at the peak of one of so many rollout workers, each with the whole policy."""
        flying = min(step.in_flight, -(-step.rows // workers))
        return _slack(self.program + self.policy.weights + sum(self._sampling(step, flying).values()))

    def together(self, step: Largest, ranks: int, workers: int) -> int:
        """Bytes of so many learners and rollout workers on one machine, at all their peaks."""
        return ranks * self.learner(step, ranks) + workers * self.worker(step, workers)

    def _learning(self, step: Largest) -> dict[str, int]:
        models = [model for model in (self.policy, self.critic) if model is not None]
        return {
            "activations": sum(model.activations(step.tokens_at_once) for model in models),
            "logits": self.policy.logits(step.at_once * step.answer),
        }

    def _sampling(self, step: Largest, flying: int) -> dict[str, int]:
        copy = self.policy.working_copy
        return ({"working copy": copy} if copy else {}) | {
            "keys and values": self.policy.cache(flying, step.prompt + step.answer),
            "drawing tokens": self.policy.drawing(flying),
        }

    def changed(self) -> dict[str, Held]:
        """The same with another model or without a reference, by the setting that does it."""
        policy, critic = self.policy, self.critic
        with_critic = None if critic is None else replace(critic, recomputed=True)
        return {
            "a model of half the size": replace(
                self,
                policy=policy.halved(),
                reference=None if self.reference is None else self.reference.halved(),
                critic=None if critic is None else critic.halved(),
            ),
            "gradient_checkpointing = true": replace(self, policy=replace(policy, recomputed=True), critic=with_critic),
            'objective.kl = "none"': replace(self, reference=None),
        }

    def always(self) -> dict[str, int]:
        """Bytes that are held all the time."""
        models = [model for model in (self.policy, self.critic) if model is not None]
        parts = {
            "program": self.program,
            "weights": self.policy.weights,
            "reference": 0 if self.reference is None else self.reference.weights,
            "critic": 0 if self.critic is None else self.critic.weights,
            "optimiser": sum(self.moment * model.gradients // 4 for model in models),
            "gradients": sum(model.gradients for model in models),
            "fp64 sums": sum(2 * model.gradients for model in models) if self.exact else 0,
        }
        return {name: size for name, size in parts.items() if size or name == "program"}


@dataclass(frozen=True)
class Rates:
    """Seconds, measured: of a prefill of one wave, of a token of n rows (`fixed` + n x `each`, at `context` tokens), of
    a token's pass and gradient, and of one optimiser step.
    """

    prefill: float
    fixed: float
    each: float
    context: int
    annotate: float
    learn: float
    optimiser: float

    def seconds(self, step: Largest, policy: Footprint) -> dict[str, float]:
        """Seconds of a step by what they are spent on. Reward functions and evaluations are not in it."""
        waves, updates = math.ceil(step.rows / step.flying), step.iterations * step.minibatches
        longer = policy.operations(1, step.prompt + step.answer // 2) / policy.operations(1, self.context)
        token = (self.fixed + self.each * step.flying) * longer
        return {
            "sampling": waves * (self.prefill + (step.answer - 1) * token),
            "annotating": step.tokens * self.annotate,
            "learning": step.tokens * self.learn * step.iterations + updates * self.optimiser,
        }


@dataclass(frozen=True)
class Estimate:
    """A step's memory and time, and what would change them most. `room`: bytes there are for all of it, if known."""

    step: Largest
    held: Held
    room: int | None
    rates: Rates | None = None

    @property
    def memory(self) -> dict[str, int]:
        """Bytes at the peak by what they are for."""
        return self.held.peak(self.step)

    @property
    def bytes(self) -> int:
        """Bytes at the peak."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether there is room for the peak, as far as anybody knows."""
        return self.room is None or self.bytes <= self.room

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of a step by what they are spent on; nothing where they were not measured."""
        return {} if self.rates is None else self.rates.seconds(self.step, self.held.policy)

    def saved_bytes(self) -> list[tuple[str, float]]:
        """The three settings that save most memory, at half their value or switched, and how many bytes."""
        peaks = {name: self.held.peak(half) for name, half in self.step.halved().items()}
        peaks |= {name: other.peak(self.step) for name, other in self.held.changed().items()}
        return _most({name: self.bytes - sum(peak.values()) for name, peak in peaks.items()})

    def saved_seconds(self) -> list[tuple[str, float]]:
        """The three settings that save most time at half their value, and how many seconds a step."""
        if self.rates is None:
            return []
        whole, policy = sum(self.seconds.values()), self.held.policy
        halves = self.step.halved().items()
        return _most({name: whole - sum(self.rates.seconds(half, policy).values()) for name, half in halves})


def _slack(size: int) -> int:
    """With what the allocator keeps on top."""
    return size + size // SLACK


def _most(saved: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(((name, much) for name, much in saved.items() if much > 0), key=lambda pair: -pair[1])[:3]
