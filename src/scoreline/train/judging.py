"""Training judges: pairs teach a model of answers which one is better, labels teach a model of steps what is right.

Both are a binary cross-entropy on a log-odds z: of a pair, z = r(q, o+) - r(q, o-) and the label is always 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from scoreline.environments.preferences import Labelled, Pair
from scoreline.errors import DataError
from scoreline.models.classifier import Ids
from scoreline.models.judges import Marked, OutcomeJudge, ProcessJudge
from scoreline.train.supervised import Fit, FitReport, Task, adamw, learn, restore_state, save_state
from scoreline.types import Metrics

OPTIMIZER, WEIGHTS = "optimizer.safetensors", "hf"


@dataclass(frozen=True)
class JudgeFit(Fit):
    """How a judge learns. A row is a pair, or an answer with labelled steps; `steps` stands above `epochs`.

    The defaults are those of fine-tuning: DeepSeekMath (2402.03300) trains its reward model with 2e-5 too.
    """

    work: ClassVar[str] = "Training the judge"


def pairwise_loss(chosen: Float[Tensor, " n"], rejected: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """L = - log sigmoid(r(q, o+) - r(q, o-)), in nats (Bradley and Terry 1952; Ouyang et al. 2203.02155, eq. 1)."""
    return softplus(rejected - chosen)


def step_loss(logits: Float[Tensor, " m"], labels: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """L = - [y log p + (1 - y) log(1 - p)] with p = sigmoid(z), in nats (Math-Shepherd, 2312.08935).

    y is 0 or 1, or, for a soft label, the share of continuations that end right.
    """
    return binary_cross_entropy_with_logits(logits, labels, reduction="none")


def accuracy(logits: Float[Tensor, " m"], labels: Float[Tensor, " m"]) -> float:
    """(1 / m) sum_j 1[ (p_j > 1/2) = (y_j > 1/2) ]: of pairs, the share in which the chosen answer scores higher."""
    return float(((logits > 0) == (labels > 0.5)).float().mean())


def majority(labels: Float[Tensor, " m"]) -> float:
    """The accuracy of always saying what most labels say: the score line of `accuracy`."""
    right = float((labels > 0.5).float().mean())
    return max(right, 1 - right)


def calibration_error(
    probabilities: Float[Tensor, " m"], labels: Float[Tensor, " m"], bins: int = 10
) -> Float[Tensor, ""]:
    """ECE = sum_b (m_b / m) | mean_b p - mean_b y |, over `bins` equal intervals of p (Guo et al. 1706.04599).

    0 when of all that is said with probability p a share p is so.
    """
    which = (probabilities * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, device=labels.device).index_add(0, which, probabilities - labels)
    return gaps.abs().sum() / len(labels)


@dataclass(frozen=True)
class Said:
    """What the judge says of some rows: log-odds z, labels y and losses, one of each for a pair or a step."""

    logits: Float[Tensor, " m"]
    labels: Float[Tensor, " m"]
    losses: Float[Tensor, " m"]


@dataclass(frozen=True)
class Compared:
    """A pair as tokens."""

    chosen: Ids
    rejected: Ids

    def __len__(self) -> int:
        return max(len(self.chosen), len(self.rejected))

    @property
    def units(self) -> int:
        """What the mean loss is taken over: pairs."""
        return 1

    @property
    def tokens(self) -> int:
        return len(self.chosen) + len(self.rejected)


@dataclass(frozen=True)
class Graded:
    """An answer as tokens, with the labels of its steps."""

    answer: Marked
    labels: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.answer)

    @property
    def units(self) -> int:
        """What the mean loss is taken over: steps."""
        return len(self.labels)

    @property
    def tokens(self) -> int:
        return len(self.answer)


class Comparing:
    """Which of two answers is better."""

    def __init__(self, judge: OutcomeJudge) -> None:
        self.judge = judge

    def encode(self, row: Pair) -> Compared:
        return Compared(self.judge.encode(row.prompt, row.chosen), self.judge.encode(row.prompt, row.rejected))

    def said(self, rows: Sequence[Compared]) -> Said:
        """Both answers of a pair go through the model at once."""
        scores = self.judge.scores([*(row.chosen for row in rows), *(row.rejected for row in rows)])
        chosen, rejected = scores.split(len(rows))
        return Said(chosen - rejected, torch.ones_like(chosen), pairwise_loss(chosen, rejected))

    def measures(self, said: Said) -> Metrics:
        """Margin, in the units of r; calibration of the probability that the preferred answer is the chosen one."""
        sure, right = said.logits.abs().sigmoid(), (said.logits > 0).float()
        return {"margin": float(said.logits.mean()), "calibration_error": float(calibration_error(sure, right))}


class Grading:
    """Which steps are right."""

    def __init__(self, judge: ProcessJudge) -> None:
        self.judge = judge

    def encode(self, row: Labelled) -> Graded:
        return Graded(self.judge.encode(row.prompt, row.steps), row.labels)

    def said(self, rows: Sequence[Graded]) -> Said:
        logits = self.judge.logits([row.answer for row in rows])
        labels = logits.new_tensor([label for row in rows for label in row.labels])
        return Said(logits, labels, step_loss(logits, labels))

    def measures(self, said: Said) -> Metrics:
        """Calibration of the probability that a step is right, and the majority's accuracy."""
        error = calibration_error(said.logits.sigmoid(), said.labels)
        return {"calibration_error": float(error), "majority": majority(said.labels)}


Row = Compared | Graded


class JudgeLearner:
    """A judge and its AdamW, which live on from one call of `fit` to the next.

    The judge is trained in place, so who scores with it scores with the newest weights.
    """

    def __init__(self, judge: OutcomeJudge | ProcessJudge, config: JudgeFit) -> None:
        self.judge, self.config = judge, config
        self.subject: Any = Comparing(judge) if isinstance(judge, OutcomeJudge) else Grading(judge)
        self.parameters = list(judge.model.requires_grad_(True).parameters())
        self.optimizer = adamw(self.parameters, config)

    def fit(self, rows: Sequence[Pair | Labelled], *, seed: int) -> Iterator[FitReport]:
        """Train and report each step: loss (nats a pair or step) and accuracy on the batch before its update.

        The schedule spans this call; `seed` is that of the order of the rows. Raises `DataError` for no rows or one
        that is too long, and `DivergenceError` when the loss stays non-finite.
        """
        encoded = self._encode(rows)
        if not encoded:
            raise DataError("There is nothing to train the judge on.", accepted="at least one row")
        task = Task(encoded, self._accumulate, lambda batch: sum(row.tokens for row in batch))
        yield from learn(task, self.parameters, self.optimizer, self.config, seed)

    @torch.no_grad()
    def measure(self, rows: Sequence[Pair | Labelled]) -> Metrics:
        """loss, accuracy, calibration_error; margin of pairs, majority (accuracy of one answer to all) of steps."""
        encoded = sorted(self._encode(rows), key=len)
        if not encoded:
            raise DataError("There is nothing to measure the judge on.", accepted="at least one row")
        parts = [self.subject.said(batch) for batch in self._micro_batches(encoded)]
        said = Said(*(torch.cat([getattr(part, name) for part in parts]) for name in ("logits", "labels", "losses")))
        facts = {"loss": float(said.losses.mean()), "accuracy": accuracy(said.logits, said.labels)}
        more: Metrics = self.subject.measures(said)
        return facts | more

    def check(self, rows: Sequence[Pair | Labelled]) -> None:
        """Raises `DataError` for the first row that is too long for the judge."""
        self._encode(rows)

    def save(self, folder: Path) -> None:
        """`hf/` (an ordinary model folder) and `optimizer.safetensors`."""
        self.judge.save(folder / WEIGHTS)
        save_state(self.optimizer, folder / OPTIMIZER)

    def restore(self, folder: Path) -> None:
        """Exactly the state that `save` wrote."""
        self.judge.restore(folder / WEIGHTS)
        restore_state(self.optimizer, folder / OPTIMIZER)

    def _accumulate(self, batch: Sequence[Row]) -> Metrics:
        """Add the gradient of the batch's mean loss to the parameters, one micro-batch of like lengths at a time."""
        total = sum(row.units for row in batch)
        loss = right = 0.0
        for rows in self._micro_batches(sorted(batch, key=len)):
            said = self.subject.said(rows)
            part = said.losses.sum() / total
            part.backward()
            loss += float(part.detach())
            right += accuracy(said.logits.detach(), said.labels) * len(said.labels) / total
        return {"loss": loss, "accuracy": right}

    def _micro_batches(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        size = self.config.micro_batch_size
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def _encode(self, rows: Sequence[Pair | Labelled]) -> list[Row]:
        limit = min(self.config.max_length, self.judge.classifier.context or self.config.max_length)
        encoded: list[Row] = [self.subject.encode(row) for row in rows]
        for row, tokens in zip(rows, encoded, strict=True):
            if len(tokens) > limit:
                raise DataError(
                    f"An answer to prompt {row.prompt.id} is too long for the judge.",
                    got=f"{len(tokens)} tokens with the prompt",
                    accepted=f"at most {limit} (the smaller of fit.max_length and the judge's context)",
                    todo="shorten or remove the row, or raise fit.max_length",
                )
        return encoded
