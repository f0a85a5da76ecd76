"""From the lines and the tensors of a step to its answers and their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scoreline.reports.inspect.view import Sample, Telling, Token, Told
from scoreline.reports.inspect.words import told
from scoreline.reports.jsonl import Row
from scoreline.reports.plaintext import spoken

if TYPE_CHECKING:
    from torch import Tensor

Records = list[list[dict[str, Any]]]
"""A record for each token of each row."""


def samples(rows: Sequence[Row], own: Told, other: Told | None = None) -> tuple[Sample, ...]:
    """The saved answers with their tokens, from their lines and their tensors."""
    tellings = _tellings(own)
    others = None if other is None else _tellings(other)
    facts = _facts(own)
    made = [
        _sample(i, row, _tokens(row, facts[i], tellings[i], None if others is None else others[i]))
        for i, row in enumerate(rows)
    ]
    spoken_of = [replace(one, words=told(one, made, own.objective)) for one in made]
    return tuple(spoken_of if other is None else [_both(one, made, other) for one in spoken_of])


def _both(sample: Sample, made: Sequence[Sample], other: Told) -> Sample:
    """The sample with what the other objective tells it."""
    seen = replace(sample, tokens=tuple(replace(token, told=token.other) for token in sample.tokens if token.other))
    return replace(sample, other_words=told(seen, made, other.objective))


def _sample(index: int, row: Row, tokens: tuple[Token, ...]) -> Sample:
    return Sample(
        index=index,
        id=str(row.get("id", "")),
        group=row["group"],
        prompt=spoken(row["prompt"]),
        answer=row["completion"],
        reward=row["reward"],
        parts=row.get("parts", {}),
        steps=row.get("steps", ()),
        finish=row["finish"],
        words="",
        tokens=tokens,
    )


def _tokens(
    row: Row, facts: list[dict[str, Any]], tellings: list[Telling], others: list[Telling] | None
) -> tuple[Token, ...]:
    """The tokens of one row; padding has none, as there are as many pieces as tokens."""
    ends = {step["end"]: number for number, step in enumerate(row.get("steps", ()))}
    return tuple(
        Token(t, piece, ends=ends.get(t), told=tellings[t], other=None if others is None else others[t], **facts[t])
        for t, (piece, _) in enumerate(row["tokens"])
    )


def _facts(own: Told) -> Records:
    """What the batch says of each token, whatever the objective."""
    batch = own.batch
    columns = {
        "own": batch.mask,
        "sampler": batch.logp_sampler,
        "old": batch.logp_old,
        "now": batch.logp,
        "reference": batch.logp_ref,
        "ratio": own.coefficients.ratio,
        "reward": batch.rewards,
        "value": batch.values,
    }
    rewarded = batch.rewarded.tolist()
    return [
        [token | {"reward": token["reward"] if earned else None} for token, earned in zip(*row, strict=True)]
        for row in zip(_transposed(columns), rewarded, strict=True)
    ]


def _tellings(own: Told) -> list[list[Telling]]:
    found = own.coefficients
    columns = {
        "advantage": own.batch.advantages,
        "clipped": found.clipped,
        "kl": found.divergence,
        "policy": found.policy,
        "pull": found.kl,
        "coefficient": found.total,
        "weight": found.weights,
    }
    return [[Telling(**token) for token in row] for row in _transposed(columns)]


def _transposed(columns: Mapping[str, Tensor | None]) -> Records:
    """Columns [n, t] as a list of n lists of t records; None for an absent column."""
    shape = next(column.shape for column in columns.values() if column is not None)
    absent = [[None] * shape[1]] * shape[0]
    lists: dict[str, Any] = {name: absent if column is None else column.tolist() for name, column in columns.items()}
    return [[{name: rows[i][t] for name, rows in lists.items()} for t in range(shape[1])] for i in range(shape[0])]
