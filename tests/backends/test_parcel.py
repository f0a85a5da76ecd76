"""Rows travel without their padding, and arrive as what they were."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from scoreline.backends.cluster.gang import joined
from scoreline.backends.cluster.parcel import Parcel, own_tokens, packed, said, unpacked
from scoreline.train.collate import collate
from scoreline.types import Batch, Completion, Prompt, Reward, Rollout

LENGTHS = (3, 9, 1, 4, 200, 1)


def made(lengths: tuple[int, ...]) -> Batch:
    """Answers of these lengths; every column that a batch can have, none of them zero where a token is."""
    answers = [Completion(tuple(range(1, n + 1)), tuple(-0.5 - i for i in range(n)), "stop") for n in lengths]
    rollouts = [
        Rollout(Prompt(f"p:{i}", ""), tuple(range(1, 3 + i)), answer, "", Reward(float(i)), i // 2)
        for i, answer in enumerate(answers)
    ]
    batch = collate(rollouts)
    names = ("logp_old", "logp_ref", "values", "advantages", "returns", "weights", "logp")
    torch.manual_seed(0)
    columns: dict[str, Tensor] = {name: torch.randn(batch.mask.shape) * batch.mask for name in names}
    return replace(batch, value_end=torch.randn(len(lengths)), **columns)


def same(one: Batch, other: Batch) -> None:
    for name in (f.name for f in fields(Batch)):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype, name
        assert torch.equal(left, right), name


@pytest.mark.parametrize("lengths", [LENGTHS, (1, 1, 1), (5,), (2, 7, 7)])
def test_all_rows_arrive_as_they_were(lengths: tuple[int, ...]) -> None:
    batch = made(lengths)
    same(unpacked(pickle.loads(pickle.dumps(packed(batch, torch.arange(len(batch)))))), batch)


@pytest.mark.parametrize("rows", [[4], [5, 0, 2], []])
def test_some_rows_arrive_in_the_order_asked_for(rows: list[int]) -> None:
    batch, order = made(LENGTHS), torch.tensor(rows, dtype=torch.long)
    same(unpacked(packed(batch, order)), batch.rows(order))


def test_columns_that_are_not_there_yet_do_not_appear() -> None:
    batch = replace(made(LENGTHS), values=None, value_end=None, logp=None)
    arrived = unpacked(packed(batch, torch.arange(3)))
    assert (arrived.values, arrived.value_end, arrived.logp) == (None, None, None)
    assert arrived.logp_old is not None


def test_one_long_answer_does_not_weigh_as_much_as_all_would() -> None:
    """64 answers of 10 tokens and one of 10,000: a table of 650,000 places, of which 10,640 travel."""
    batch = made((10,) * 64 + (10_000,))
    parcel: Parcel = packed(batch, torch.arange(65))
    assert {column.size for column in parcel.tokens.values()} == {10_640}
    assert len(pickle.dumps(parcel)) < 10_640 * 100


@pytest.mark.parametrize("lengths", [LENGTHS, (1, 1, 1, 1)])
def test_what_ranks_say_of_their_rows_comes_together(lengths: tuple[int, ...]) -> None:
    batch = made(lengths)
    dealt = [torch.tensor([3, 0]), torch.arange(0), torch.tensor([rest for rest in range(len(batch)) if rest % 3])]
    parts = [said(batch.rows(rows)) for rows in dealt]
    for name in ("logp_old", "logp_ref", "values", "value_end"):
        assert torch.equal(joined(name, [part[name] for part in parts], dealt, batch), getattr(batch, name)), name
    assert batch.logp is not None
    assert torch.equal(torch.from_numpy(own_tokens(batch.logp, batch.length)), batch.logp[batch.mask])
