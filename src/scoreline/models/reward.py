"""A reward model as a reward function: a sequence classifier with one output, r(q, o) in its own units."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from scoreline.errors import DataError, ModelError
from scoreline.models.device import choose_device
from scoreline.models.loading import load_config, load_tokenizer, load_weights, resolve
from scoreline.models.text import Text
from scoreline.types import Prompt


class Judge:
    """Scores answers in the signature of reward functions: `judge(prompts, completions, **columns) -> list[float]`.

    Strings are read as prompt followed by answer, messages through the reward model's own chat template. A score does
    not depend on what else is in its batch.
    """

    def __init__(self, model: PreTrainedModel, text: Text, *, batch_size: int = 32) -> None:
        self.model: Any = model.requires_grad_(False).train(False)
        self.text = text
        self.batch_size = batch_size

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        """One score for each answer, in their order. Raises `DataError` for a text longer than the model's context."""
        rows = [
            self._encode(prompt, answer, i) for i, (prompt, answer) in enumerate(zip(prompts, completions, strict=True))
        ]
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        scores = [0.0] * len(rows)
        for start in range(0, len(rows), self.batch_size):
            picked = by_length[start : start + self.batch_size]
            for i, score in zip(picked, self._score([rows[i] for i in picked]).tolist(), strict=True):
                scores[i] = score
        return scores

    @torch.inference_mode()
    def _score(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
        """[n]. Pads on the right with an id that no row ends in: classifiers pool at the last token that is no pad."""
        last = {row[-1] for row in rows}
        pad = next(i for i in (self.text.pad_id, *range(len(last) + 1)) if i not in last)
        self.model.config.get_text_config().pad_token_id = self.model.config.pad_token_id = pad
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=self.model.device)
        lengths = torch.tensor([[len(row)] for row in rows], device=self.model.device)
        present = torch.arange(width, device=self.model.device) < lengths
        logits: Tensor = self.model(input_ids=ids, attention_mask=present.long()).logits
        return logits[:, 0].float()

    def _encode(self, prompt: Any, answer: Any, row: int) -> tuple[int, ...]:
        content = prompt + answer if isinstance(prompt, str) else (*prompt, *answer)
        ids = self.text.encode(Prompt(f"of row {row}", content), answered=True)
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or len(ids)
        if not 0 < len(ids) <= limit:
            raise DataError(
                f"Prompt and answer of row {row} do not fit into the reward model.",
                got=f"{len(ids)} tokens",
                accepted=f"1 to {limit} tokens",
                todo="lower max_completion_length, shorten the prompts, or choose a reward model with a longer context",
            )
        return ids


def load_judge(
    path: str,
    *,
    device: str = "auto",
    batch_size: int = 32,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
) -> Judge:
    """A reward model's folder or id as a reward function. Raises `ModelError` for anything that is no such model."""
    source = resolve(path)
    config = load_config(source, trust_remote_code=trust_remote_code)
    _check_head(source, config)
    tokenizer = load_tokenizer(source, trust_remote_code=trust_remote_code)
    model = load_weights(
        AutoModelForSequenceClassification,
        source,
        config,
        trust_remote_code=trust_remote_code,
        dtype=torch.float32,
    )
    with warnings.catch_warnings(action="ignore"):  # a missing eos matters only to what is sampled
        text = Text(tokenizer, chat_template=chat_template)
    return Judge(model.to(choose_device(device)), text, batch_size=batch_size)  # type: ignore[arg-type]


def _check_head(source: str, config: PreTrainedConfig) -> None:
    named = ", ".join(config.architectures or ["no architecture"])
    if "ForSequenceClassification" in named and config.num_labels == 1:
        return
    raise ModelError(
        "The model is not a reward model.",
        got=f"{source}: {named} with {config.num_labels} outputs",
        accepted="a ...ForSequenceClassification with num_labels = 1",
        todo="choose a reward model; a causal language model gives no scores",
    )
