"""Who computes which rows: every row once, and with exact sums the very portions of one learner."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scoreline.backends.cluster.gang import deal, groups, joined
from scoreline.train.collate import collate
from scoreline.train.portions import Portion, cut
from scoreline.types import Batch
from tests import parts


@pytest.fixture(scope="module")
def batch() -> Batch:
    made = collate(parts.rollouts(parts.policy(), questions=5, answers=3))
    lengths = torch.tensor([3, 9, 1, 4, 4, 8, 2, 7, 7, 1, 5, 9, 3, 6, 2])
    return replace(made, length=lengths)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_every_row_has_one_rank_and_groups_stay_together(batch: Batch, ranks: int) -> None:
    dealt = deal(batch, groups(batch, ranks), ranks)
    assert sorted(torch.cat(dealt).tolist()) == list(range(15))
    assert len(dealt) == ranks
    if ranks <= 5:
        homes = [set(batch.group[rows].tolist()) for rows in dealt]
        assert sum(map(len, homes)) == 5
    loads = [int((batch.prompt_length + batch.length)[rows].sum()) for rows in dealt]
    largest = max(int((batch.prompt_length + batch.length)[rows].sum()) for rows in groups(batch, ranks))
    assert max(loads) - min(loads) <= largest, "the largest portion goes to whoever has least"
    columns = [batch.length[rows].float().numpy() for rows in dealt]
    assert torch.equal(joined("value_end", columns, dealt, batch), batch.length.float())


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("ranks", [2, 3, 9])
def test_ranks_cut_what_they_were_dealt_into_the_portions_of_one_learner(
    batch: Batch, ranks: int, packed: bool
) -> None:
    """Also the last one, which has fewer rows; and ranks for which there is none."""
    portion = Portion(4)
    whole = [rows.tolist() for rows in cut(batch, portion, packed=packed)]
    again = []
    for rows in deal(batch, cut(batch, portion, packed=packed), ranks):
        again += [rows[part].tolist() for part in cut(batch.rows(rows), portion, packed=packed)]
    assert sorted(again) == sorted(whole)
