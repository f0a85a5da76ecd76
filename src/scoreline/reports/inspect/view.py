"""A step as it is looked at: its answers, their tokens, and, in a what-if, what another objective tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from scoreline.types import Batch

if TYPE_CHECKING:
    from scoreline.objectives.coefficients import Alignment, Coefficients
    from scoreline.objectives.objective import Objective


@dataclass(frozen=True)
class Telling:
    """What an objective tells one token: A, whether the clip took its gradient away, the KL estimator's value (nats,
    None without a KL), the policy's and the KL's share of GC, and w. `coefficient` is GC, the sum of the shares.
    """

    advantage: float
    clipped: bool
    kl: float | None
    policy: float
    pull: float
    coefficient: float
    weight: float


@dataclass(frozen=True)
class Token:
    """One token of an answer. Log-probabilities in nats; None for what the run did not compute.

    `reward` is there where one was earned, `ends` the number of the step that ends here. `own` is false where the
    token carries no loss. `other` is what the other objective of a what-if tells it.
    """

    index: int
    piece: str
    own: bool
    sampler: float
    old: float | None
    now: float
    reference: float | None
    ratio: float
    reward: float | None
    ends: int | None
    value: float | None
    told: Telling
    other: Telling | None = None


@dataclass(frozen=True)
class Sample:
    """One saved answer; `index` is its place among the saved ones, from 0. `words` say what it was told,
    `other_words` what the other objective of a what-if tells it.
    """

    index: int
    id: str
    group: int
    prompt: str
    answer: str
    reward: float | None
    parts: Mapping[str, float | None]
    steps: Sequence[Mapping[str, Any]]
    finish: str
    words: str
    tokens: tuple[Token, ...]
    other_words: str = ""

    @property
    def strength(self) -> float:
        """The mean of |GC| over its own tokens."""
        return _strength([token.told for token in self.tokens if token.own])

    @property
    def other_strength(self) -> float:
        """The same under the other objective."""
        return _strength([token.other for token in self.tokens if token.own and token.other is not None])

    @property
    def brief(self) -> dict[str, Any]:
        """Everything but the tokens."""
        known = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "tokens"}
        other = {"other_strength": self.other_strength} if any(token.other for token in self.tokens) else {}
        return known | {"length": len(self.tokens), "strength": self.strength} | other


@dataclass(frozen=True)
class Told:
    """A named objective's view of a step: beta in that step, its tensors, its coefficients."""

    name: str
    objective: Objective
    beta: float | None
    batch: Batch
    coefficients: Coefficients


@dataclass(frozen=True)
class WhatIf:
    """Another objective on the same rollouts: which settings differ (address: own, other), its losses, and how alike
    the two directions are, over all w GC and, where it was asked for, over the gradient of the weights of `checkpoint`.
    """

    name: str
    settings: Mapping[str, tuple[Any, Any]]
    losses: Mapping[str, float]
    coefficients: Alignment
    gradient: Alignment | None = None
    checkpoint: str | None = None


@dataclass(frozen=True)
class Inspection:
    """A step of a run, looked at. `notes` say what a reader must know of the numbers; `losses` are sums over the saved
    rows, a mean over the step's updates.
    """

    run: str
    step: int
    objective: str
    beta: float | None
    samples: tuple[Sample, ...]
    losses: Mapping[str, float]
    notes: tuple[str, ...]
    what_if: WhatIf | None = None

    def only(self, sample: int | None, token: int | None) -> dict[str, Any]:
        """For machines: everything about one sample or one token; without either, the samples without their tokens."""
        head = asdict(replace(self, samples=()))
        if sample is None:
            return head | {"samples": [one.brief for one in self.samples]}
        one = self.samples[sample]
        tokens = one.tokens if token is None else one.tokens[token : token + 1]
        return head | {"sample": one.brief | {"tokens": [asdict(each) for each in tokens]}}


def _strength(tellings: Sequence[Telling]) -> float:
    return fmean(abs(telling.coefficient) for telling in tellings) if tellings else 0.0
