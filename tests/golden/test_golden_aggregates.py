"""Weights, worked by hand on the losses 1, 1, 1, 1 of one answer and 5 of another."""

from __future__ import annotations

import pytest
import torch

from scoreline.errors import ObjectiveError
from scoreline.objectives.aggregates import FixedLength, SequenceMean, SequenceSum, TokenMean, answers

LOSSES = torch.tensor([[1.0, 1.0, 1.0, 1.0], [5.0, 0.0, 0.0, 0.0], [7.0, 7.0, 7.0, 7.0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        (TokenMean(), 1.8),  # (4 + 5) / 5
        (SequenceMean(), 3.0),  # (1 + 5) / 2
        (SequenceSum(), 4.5),  # (4 + 5) / 2
        (FixedLength(4), 1.125),  # (4 + 5) / (2 * 4)
        (FixedLength(512), 9 / 1024),
    ],
)
@pytest.mark.parametrize("rows", [2, 3])  # an answer without a token of its own does not count as one
def test_aggregates(aggregate, expected, rows):
    assert float((aggregate(MASK[:rows]) * LOSSES[:rows]).sum()) == pytest.approx(expected)


def test_answers():
    assert float(answers(MASK)) == 2.0
    assert float(answers(torch.zeros(3, 4, dtype=torch.bool))) == 1.0


def test_fixed_length_needs_a_length():
    with pytest.raises(ObjectiveError, match=r"FixedLength has no length[\s\S]*a token budget"):
        FixedLength()(MASK)
