"""Text ends here: padding, masks and rewards by hand."""

from __future__ import annotations

import torch

from scoreline.train.collate import collate, trim
from scoreline.types import Completion, Prompt, Reward, Rollout

ASKED = Prompt("a", "x")
ROWS = [
    Rollout(ASKED, (5, 6), Completion((7, 8, 1), (-0.1, -0.2, -0.3), "stop"), "", Reward(2.0), 0),
    Rollout(ASKED, (4,), Completion((9,), (-0.5,), "length"), "", Reward(None), 1),
]


def test_columns_by_hand() -> None:
    batch = collate(ROWS)
    assert batch.prompts.tolist() == [[5, 6], [0, 4]]
    assert batch.completions.tolist() == [[7, 8, 1], [9, 0, 0]]
    assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.rewards.tolist() == [[0, 0, 2], [0, 0, 0]]
    assert batch.rewarded.tolist() == [[False, False, True], [False, False, False]], "None is no reward, not zero"
    assert batch.truncated.tolist() == [False, True]
    assert torch.allclose(batch.logp_sampler, torch.tensor([[-0.1, -0.2, -0.3], [-0.5, 0, 0]]))


def test_truncated_answers_can_be_kept_out_of_the_loss() -> None:
    batch = collate(ROWS, mask_truncated=True)
    assert batch.mask.tolist() == [[True, True, True], [False, False, False]]


def test_trim_drops_unused_columns_only() -> None:
    batch = trim(collate(ROWS).rows(torch.tensor([1])))
    assert batch.prompts.tolist() == [[4]]
    assert batch.completions.tolist() == [[9]]
    assert batch.rewarded.shape == (1, 1)
