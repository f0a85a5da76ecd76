"""Where text ends and tensors begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from scoreline.types import Batch, Rollout


def collate(rollouts: Sequence[Rollout], *, device: torch.device | str = "cpu", mask_truncated: bool = False) -> Batch:
    """The tensors of some rollouts: prompts padded on the left, answers on the right, rewards where they were earned.

    The total sits on the last token, a step's reward on the token that ends the step; rewards that meet on one token
    add up. Padding is token 0 everywhere; it is told apart by length, never by its id. With `mask_truncated`, answers
    that the token budget cut off count in the group's mean and std, but carry no loss.
    """
    lengths = [len(r.completion.token_ids) for r in rollouts]
    width, budget = max(len(r.prompt_ids) for r in rollouts), max(lengths)
    length = torch.tensor(lengths)
    truncated = torch.tensor([r.completion.finish == "length" for r in rollouts])
    own = torch.arange(budget)[None] < length[:, None]
    rewards, rewarded = placed(rollouts, budget)
    columns = {
        "prompts": torch.tensor([[0] * (width - len(r.prompt_ids)) + list(r.prompt_ids) for r in rollouts]),
        "prompt_length": torch.tensor([len(r.prompt_ids) for r in rollouts]),
        "completions": right_padded([r.completion.token_ids for r in rollouts], torch.long),
        "length": length,
        "mask": own & ~truncated[:, None] if mask_truncated else own,
        "group": torch.tensor([r.group for r in rollouts]),
        "rewards": rewards,
        "rewarded": rewarded,
        "truncated": truncated,
        "logp_sampler": right_padded([r.completion.logprobs for r in rollouts], torch.float),
    }
    return Batch(**{name: column.to(device) for name, column in columns.items()})


def placed(rollouts: Sequence[Rollout], width: int) -> tuple[Tensor, Tensor]:
    """Rewards on the tokens where they were earned, and where those are: float and bool, [n, width]."""
    rewards, rewarded = torch.zeros(len(rollouts), width), torch.zeros(len(rollouts), width, dtype=torch.bool)
    for row, rollout in enumerate(rollouts):
        for end, reward in earned(rollout):
            rewards[row, end] += reward
            rewarded[row, end] = True
    return rewards, rewarded


def earned(rollout: Rollout) -> list[tuple[int, float]]:
    """(token, reward) of the whole answer and of each step, as far as they were scored."""
    ends = [len(rollout.completion.token_ids) - 1, *(step.end for step in rollout.steps)]
    given = [rollout.reward.total, *(rollout.reward.steps or [None] * len(rollout.steps))]
    return [(end, reward) for end, reward in zip(ends, given, strict=True) if reward is not None]


def right_padded(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
    """[n, longest] with zeros behind each row. Only what is there goes through Python: padding may be most of it."""
    return pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], batch_first=True)


def trim(batch: Batch) -> Batch:
    """The same rows without the columns that none of them uses."""
    start = batch.prompts.shape[1] - int(batch.prompt_length.max())
    end = int(batch.length.max())
    budget = batch.completions.shape[1]
    if start == 0 and end == budget:
        return batch
    wide = {f.name: getattr(batch, f.name) for f in fields(batch)}
    cut = {
        name: column[:, :end]
        for name, column in wide.items()
        if column is not None and column.dim() == 2 and name != "prompts"
    }
    return replace(batch, prompts=batch.prompts[:, start:], **cut)


def untrim(column: Tensor, width: int) -> Tensor:
    """[n, s] -> [n, width], zeros on the right."""
    return torch.nn.functional.pad(column, (0, width - column.shape[1]))
