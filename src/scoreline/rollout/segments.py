"""From answers to their steps, each with the token that ends it. The sampled ids are mapped, never made again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from scoreline.environments.steps import Cutter, Splitter, joined
from scoreline.models.text import Text
from scoreline.types import Step


class Segmenter:
    """Cuts answers into steps: `segmenter(texts, ids)`, where each text is what its ids decode to.

    A step ends at the first token with which all of it is said; two that end inside one token end there both. A step
    that reaches the end of the text ends at the answer's last token, its eos included, where an outcome reward sits.

    A marker that decoding leaves out, a special token, is looked for among the ids; every other one in the text, where
    it is found too when it is a part of a larger token.
    """

    def __init__(self, splitter: Splitter, text: Text) -> None:
        self.splitter, self.text = splitter, text
        self._cutter = Cutter(splitter)
        self._marker = text.unsaid(str(splitter.at)) if splitter.by == "marker" else None

    def check(self) -> None:
        """Before the first step: a function can be imported, and takes completions."""
        self._cutter.check()

    def __call__(self, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> list[tuple[Step, ...]]:
        """The steps of each answer; none of a blank one."""
        rows = list(zip(texts, ids, strict=True))
        if self._marker is not None:
            return [self._marked(text, tokens, self._marker) for text, tokens in rows]
        return [
            self._reached(text, tokens, ends) for (text, tokens), ends in zip(rows, self._cutter(texts), strict=True)
        ]

    def _reached(self, text: str, ids: Sequence[int], ends: Sequence[int]) -> tuple[Step, ...]:
        return steps(text, len(ids), {end: self.text.reach(ids, text, end) for end in ends if end < len(text)}, ends)

    def _marked(self, text: str, ids: Sequence[int], marker: int) -> tuple[Step, ...]:
        said = accumulate(map(len, self.text.pieces(ids)))
        tokens = {end: i for i, (end, token) in enumerate(zip(said, ids, strict=True)) if token == marker}
        return steps(text, len(ids), tokens, joined(text, sorted(tokens), tail=self.splitter.tail))

    def close(self) -> None:
        """End the process of a pattern or function. A later call starts it again."""
        self._cutter.close()


def steps(text: str, length: int, tokens: dict[int, int], ends: Sequence[int]) -> tuple[Step, ...]:
    """The steps that end at these characters; `tokens` says at which token each is, and the text's end is the last."""
    return tuple(
        Step(text[start:end], length - 1 if end == len(text) else tokens[end]) for start, end in pairwise((0, *ends))
    )
