"""Learned judges: a model of whole answers, r(q, o) in its own units, and one of steps, P(step j is right | q, o_<=j).

Both are ordinary Hugging Face folders: a sequence classifier with 1 label, a token classifier with 1 or 2 labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from scoreline.errors import DataError, RewardError
from scoreline.models.classifier import Classifier, Ids
from scoreline.models.device import Precision, choose_device
from scoreline.models.heads import Kind, fresh_classifier, head_of, load_classifier, wrong_head
from scoreline.types import Message, Prompt


@dataclass(frozen=True)
class Marked:
    """A question and the steps of its answer as tokens; `ends` are the places of each step's last token."""

    ids: Ids
    ends: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


class Sized(Protocol):
    """A text as tokens."""

    def __len__(self) -> int: ...


R = TypeVar("R", bound=Sized)


class Judge:
    """What judges of answers and of steps have in common. Scores never depend on what else is in the batch."""

    def __init__(self, classifier: Classifier, *, batch_size: int = 32) -> None:
        self.classifier, self.batch_size = classifier, batch_size
        self.model, self.text = classifier.model, classifier.text

    def save(self, folder: Path) -> None:
        """An ordinary Hugging Face folder, which `AutoModelFor...Classification.from_pretrained` loads."""
        self.classifier.save(folder)

    def restore(self, folder: Path) -> None:
        """Exactly the weights that `save` wrote."""
        self.model.load_state_dict(load_classifier(str(folder))[1].state_dict())

    @torch.no_grad()
    def _batched(self, rows: Sequence[R], score: Callable[[Sequence[R]], list[list[float]]]) -> list[list[float]]:
        """The scores of each row, in their order. Rows of like length are computed together."""
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        scores: list[list[float]] = [[]] * len(rows)
        for start in range(0, len(rows), self.batch_size):
            picked = by_length[start : start + self.batch_size]
            for i, given in zip(picked, score([rows[i] for i in picked]), strict=True):
                scores[i] = given
        for i, given in enumerate(scores):
            self._check_finite(i, given)
        return scores

    def _check_finite(self, row: int, scores: Sequence[float]) -> None:
        if not torch.tensor(scores).isfinite().all():
            raise RewardError(
                f"The judge {self.classifier.source} gave row {row} a score that is no number.",
                got=scores[0] if len(scores) == 1 else list(scores),
                accepted="finite scores",
                todo="give the judge precision = 'fp32'; if that does not help its weights are broken: train it again",
            )

    def _check_fits(self, row: int, text: Sized) -> None:
        limit = self.classifier.context or len(text)
        if not 0 < len(text) <= limit:
            raise DataError(
                f"Prompt and answer of row {row} do not fit into the judge {self.classifier.source}.",
                got=f"{len(text)} tokens",
                accepted=f"1 to {limit} tokens",
                todo="lower max_completion_length, shorten the prompts, or choose a judge with a longer context",
            )


class OutcomeJudge(Judge):
    """Scores answers in the signature of reward functions: `judge(prompts, completions, **columns) -> list[float]`.

    Strings are read as prompt followed by answer, messages through the judge's own chat template.
    """

    kind: ClassVar[Literal["outcome"]] = "outcome"

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        """One score for each answer, in their order.

        Raises `DataError` for a text longer than the model's context, `RewardError` for a score that is not finite.
        """
        pairs = enumerate(zip(prompts, completions, strict=True))
        rows = [self.encode(Prompt(f"of row {i}", prompt), answer) for i, (prompt, answer) in pairs]
        for i, row in enumerate(rows):
            self._check_fits(i, row)
        return [score for [score] in self._batched(rows, lambda batch: self.scores(batch)[:, None].tolist())]

    def encode(self, prompt: Prompt, answer: str | Sequence[Message]) -> Ids:
        """Question and answer as tokens."""
        asked = prompt.content
        if isinstance(asked, str):
            whole: Any = asked + str(answer)
        else:
            whole = (*asked, *([{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer))
        return self.text.encode(Prompt(prompt.id, whole), answered=True)

    def scores(self, rows: Sequence[Ids]) -> Float[Tensor, " n"]:
        """r(q, o) of each text."""
        return self.classifier.whole(rows)[:, 0]


class ProcessJudge(Judge):
    """Scores steps in the signature of step rewards: `judge(prompts, steps, **columns) -> list[list[float]]`.

    The score of a step, P(right) in [0, 1], is read at its last token. The prompt and each step are tokenised by
    themselves and joined.
    """

    kind: ClassVar[Literal["process"]] = "process"

    def __call__(self, prompts: Sequence[Any], steps: Sequence[Sequence[str]], **columns: Any) -> list[list[float]]:
        """One probability for each step of each answer; none for an answer without steps.

        Raises `DataError` for a text longer than the model's context, `RewardError` for a score that is not finite.
        """
        asked = [i for i, answer in enumerate(steps) if answer]
        rows = [self.encode(Prompt(f"of row {i}", prompts[i]), steps[i]) for i in asked]
        for i, row in zip(asked, rows, strict=True):
            self._check_fits(i, row)
        given = dict(zip(asked, self._batched(rows, self._probabilities), strict=True))
        return [given.get(i, []) for i in range(len(steps))]

    def encode(self, prompt: Prompt, steps: Sequence[str]) -> Marked:
        """Question and steps as tokens, with the places where steps end."""
        content = prompt.content if isinstance(prompt.content, str) else tuple(prompt.content)
        ids, ends = list(self.text.encode(Prompt(prompt.id, content))), []
        for step in steps:
            tokens = self.text.tokenizer(step, add_special_tokens=False, verbose=False)["input_ids"]
            if not tokens:
                raise DataError(f"Prompt {prompt.id} has a step without tokens.", got=repr(step), todo="remove it")
            ids += tokens
            ends.append(len(ids) - 1)
        return Marked(tuple(ids), tuple(ends))

    def logits(self, rows: Sequence[Marked]) -> Float[Tensor, " m"]:
        """The log-odds z of "right" for all steps, one text after another: z_1 - z_0, or the one logit there is."""
        logits = self.classifier.at([row.ids for row in rows], [row.ends for row in rows])
        return logits[:, -1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]

    def _probabilities(self, rows: Sequence[Marked]) -> list[list[float]]:
        logits = self.logits(rows)
        right = torch.where(logits.isfinite(), logits.sigmoid(), logits)  # an infinite logit must be seen, not rounded
        return [part.tolist() for part in right.split([len(row.ends) for row in rows])]


KINDS: dict[Kind, type[OutcomeJudge] | type[ProcessJudge]] = {"outcome": OutcomeJudge, "process": ProcessJudge}


def load_judge(
    path: str,
    *,
    device: str = "auto",
    precision: Precision = "fp32",
    batch_size: int = 32,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
) -> OutcomeJudge | ProcessJudge:
    """The judge in a folder or of an id; its head says which kind it is. Raises `ModelError` for any other head."""
    kind, model, text = load_classifier(path, trust_remote_code=trust_remote_code, chat_template=chat_template)
    model.requires_grad_(False).to(choose_device(device))
    return KINDS[kind](Classifier(model, text, precision=precision, source=path), batch_size=batch_size)


def make_judge(
    kind: Kind,
    path: str,
    *,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "fp32",
    batch_size: int = 32,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
) -> OutcomeJudge | ProcessJudge:
    """A judge to train: the trunk of the causal language model at `path` and a new head, which depends on the seed."""
    model, text = fresh_classifier(
        kind, path, seed=seed, trust_remote_code=trust_remote_code, chat_template=chat_template
    )
    model.to(choose_device(device))
    return KINDS[kind](Classifier(model, text, precision=precision, source=path), batch_size=batch_size)


def start_judge(kind: Kind, path: str, *, seed: int = 0, **told: Any) -> OutcomeJudge | ProcessJudge:
    """A judge to train: a judge of this kind goes on, a causal language model gets a new head."""
    found = head_of(path, trust_remote_code=told.get("trust_remote_code", False))
    if found == "causal":
        return make_judge(kind, path, seed=seed, **told)
    if found != kind:
        raise wrong_head(kind, found, path)
    return load_judge(path, **told)
