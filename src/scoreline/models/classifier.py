"""A transformer with a classification head over texts of different lengths: what a judge computes with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoreline.models.device import Precision, autocast
from scoreline.models.policy import recomputing
from scoreline.models.text import Text

Ids = tuple[int, ...]


class Classifier:
    """Logits of whole texts or of single tokens, in fp32. They do not depend on what else is in the batch.

    `source` is the folder or id it came from, for messages. Dropout is off, in training too.
    """

    def __init__(self, model: Any, text: Text, *, precision: Precision = "fp32", source: str = "the judge") -> None:
        self.model: Any = model.train(False)
        self.text = text
        self.precision = precision
        self.source = source

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self.model.device
        return device

    @property
    def context(self) -> int | None:
        """Tokens that its positions reach; None when its configuration names no limit."""
        limit: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return limit

    def whole(self, rows: Sequence[Ids]) -> Float[Tensor, "n c"]:
        """One row of logits for each text, read at its last token by causal models."""
        pad = self._pad_that_ends_no_row(rows)
        with self._pooling_before(pad):
            return self._forward(rows, pad)

    def at(self, rows: Sequence[Ids], ends: Sequence[Sequence[int]]) -> Float[Tensor, "m c"]:
        """Logits at the tokens `ends[i]` of each text i, one text after another."""
        logits = self._forward(rows, self.text.pad_id)
        row = [i for i, places in enumerate(ends) for _ in places]
        place = [place for places in ends for place in places]
        return logits[row, place]

    def save(self, folder: Path) -> None:
        """An ordinary Hugging Face folder with its tokenizer."""
        self.model.save_pretrained(folder, safe_serialization=True)
        self.text.tokenizer.save_pretrained(folder)

    def _forward(self, rows: Sequence[Ids], pad: int) -> Tensor:
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=self.device)
        lengths = torch.tensor([[len(row)] for row in rows], device=self.device)
        present = torch.arange(width, device=self.device) < lengths
        with autocast(self.device, self.precision), recomputing(self.model):
            logits: Tensor = self.model(input_ids=ids, attention_mask=present.long()).logits
        return logits.float()

    def _pad_that_ends_no_row(self, rows: Sequence[Ids]) -> int:
        last = {row[-1] for row in rows}
        candidates: tuple[int, ...] = (self.text.pad_id, *range(len(last) + 1))
        return next(i for i in candidates if i not in last)

    @contextmanager
    def _pooling_before(self, pad: int) -> Iterator[None]:
        # Classifiers pool at the last token that is not the configuration's pad. What is saved keeps the usual one.
        configs = (self.model.config, self.model.config.get_text_config())
        usual = [config.pad_token_id for config in configs]
        for config in configs:
            config.pad_token_id = pad
        try:
            yield
        finally:
            for config, kept in zip(configs, usual, strict=True):
                config.pad_token_id = kept
