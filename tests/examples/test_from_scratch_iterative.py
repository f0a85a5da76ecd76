"""The page on iterative RL: its policy learns what the library's does, its judge as the formula says, its rounds follow
DeepSeekMath's Algorithm 1. And it runs."""

from __future__ import annotations

import copy
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from scoreline.environments.preferences import Pair
from scoreline.models import tiny
from scoreline.objectives.zoo import grpo
from scoreline.train.judging import pairwise_loss
from scoreline.train.replay import Replay
from scoreline.types import Prompt
from tests.examples.test_from_scratch import (
    CLOSE,
    EACH_OPTIMIZER,
    GROUP,
    MU,
    SEEDS,
    Setting,
    agree,
    fresh,
    library,
    same_weights,
)
from tests.examples.test_from_scratch import page as module
from tests.examples.test_from_scratch_process import page, run, stepwise


@SEEDS
def test_the_policy_of_the_rounds_is_the_library_s(seed):
    lesson = page("iterative")
    batch, logp, values = stepwise(seed)
    last = torch.arange(batch.mask.shape[1]) == batch.length[:, None] - 1
    scores = batch.rewards.sum(1)
    batch = replace(batch, rewards=scores[:, None] * last, rewarded=last)
    ours, estimated = library(grpo, batch, logp, values)
    advantage = lesson.advantages(scores, GROUP)
    torch.testing.assert_close(advantage[:, None] * batch.mask, estimated.advantages, **CLOSE)
    agree(ours, lesson.loss(logp, batch.logp_old, batch.logp_ref, advantage, batch.mask), logp)


@EACH_OPTIMIZER
def test_a_step_of_a_round_is_the_library_s(make):
    lesson, setting = page("iterative"), Setting()
    learned, _, _ = setting.learn(grpo, make, updates=MU)
    model = fresh(0)
    optimizer = make(model.parameters())
    lesson.step(model, fresh(1), optimizer, setting.samples(lesson), setting.rewards(), GROUP, MU)
    same_weights(model, learned.model, setting.policy.model)


def judge_and_tokenizer():
    model, tokenizer = tiny.build(0)
    config = model.config
    config.num_labels = 1
    torch.manual_seed(0)
    made = AutoModelForSequenceClassification.from_config(config).eval()
    return made, tokenizer


def test_a_judge_s_scores_do_not_depend_on_the_company():
    lesson, (judge, tokenizer) = page("iterative"), judge_and_tokenizer()
    texts = ["3+8+12=#23", "3+8+12=3+8=11;11+12=23#23", "1+1+1=#4"]
    with torch.no_grad():
        together = lesson.scores(judge, tokenizer, texts)
        alone = torch.cat([lesson.scores(judge, tokenizer, [text]) for text in texts])
    assert together.std() > 1e-3
    torch.testing.assert_close(together, alone, **CLOSE)


def test_the_judge_reads_the_state_after_the_last_token():
    lesson, (judge, tokenizer) = page("iterative"), judge_and_tokenizer()
    with torch.no_grad():
        state = judge.model(torch.tensor([tokenizer("1+1+1=#3").input_ids])).last_hidden_state[0, -1]
        torch.testing.assert_close(lesson.scores(judge, tokenizer, ["1+1+1=#3"])[0], judge.score.weight[0] @ state)


def test_preference_loss_by_hand():
    # -log sigmoid(1) = 0.313262, -log sigmoid(-2) = 2.126928: mean 1.220095. Gradients: -(1 - 0.731059) / 2 and
    # -(1 - 0.119203) / 2.
    lesson = page("iterative")
    right, wrong = torch.tensor([2.0, 0.0], requires_grad=True), torch.tensor([1.0, 2.0])
    loss = lesson.preference_loss(right, wrong)
    loss.backward()
    assert loss.item() == pytest.approx(1.220095, abs=1e-6)
    assert right.grad.tolist() == pytest.approx([-0.134471, -0.440399], abs=1e-6)
    torch.testing.assert_close(loss, pairwise_loss(right, wrong).mean())


def test_pairs_are_a_right_and_a_wrong_answer_to_one_question():
    answered = [
        ("1+1+1=", "#3", 1.0),
        ("2+1+1=", "#3", 0.0),
        ("1+1+1=", "#4", 0.0),
        ("1+1+1=", "1+1=2;2+1=3#3", 1.0),
        ("1+1+1=", "#5", 0.0),
        ("1+1+1=", "#6", 0.0),
        ("3+1+1=", "#5", 1.0),
    ]
    made = page("iterative").pairs(answered)
    assert made == [("1+1+1=#3", "1+1+1=#4"), ("1+1+1=1+1=2;2+1=3#3", "1+1+1=#5")]


@pytest.mark.parametrize(
    ("fresh_rows", "history", "share", "replayed"),
    [
        (90, 500, 0.1, 10),  # 10 of 100
        (270, 500, 0.1, 30),
        (100, 500, 0.1, 11),  # 11 of 111: the nearest whole number
        (90, 4, 0.1, 4),  # there are no more
        (90, 0, 0.1, 0),
        (90, 500, 0.0, 0),
        (90, 500, 0.5, 90),
        (0, 500, 0.1, 0),
    ],
)
def test_the_replay_share_is_what_is_said(fresh_rows, history, share, replayed):
    new = [(f"new {i}", "") for i in range(fresh_rows)]
    old = [(f"old {i}", "") for i in range(history)]
    made = page("iterative").with_replay(new, old, share, random.Random(0))
    assert sorted(row for row in made if row in new) == sorted(new)
    assert len(set(made)) == len(made) == fresh_rows + replayed
    kept = Replay([Pair(Prompt("q", "?"), *row) for row in old], share=share)
    assert len(kept.draw(fresh_rows, number=1)) == replayed, "the library's share"
    assert set(made) <= {*new, *old}
    if history >= replayed > 0:
        assert abs(replayed - share * len(made)) <= 0.5 or history == replayed
        assert made != [*new, *(row for row in made if row not in new)], "shuffled"


def test_the_judge_learns_pairs():
    lesson, (judge, tokenizer) = page("iterative"), judge_and_tokenizer()
    rows = [(f"{i}+1+1=#{i + 2}", f"{i}+1+1=#{i + 1}") for i in range(1, 9)]
    before = copy.deepcopy(judge.state_dict())
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    for _ in range(8):
        lesson.train_judge(judge, optimizer, tokenizer, rows)
    assert lesson.accuracy(judge, tokenizer, rows) == 1.0
    assert lesson.accuracy(judge, tokenizer, [(wrong, right) for right, wrong in rows]) == 0.0
    assert any(not torch.equal(before[name], weight) for name, weight in judge.state_dict().items())


def test_no_pair_teaches_nothing():
    lesson, (judge, tokenizer) = page("iterative"), judge_and_tokenizer()
    before = copy.deepcopy(judge.state_dict())
    lesson.train_judge(judge, torch.optim.AdamW(judge.parameters(), lr=1e-3), tokenizer, [])
    assert all(torch.equal(before[name], weight) for name, weight in judge.state_dict().items())
    accuracy = lesson.accuracy(judge, tokenizer, [])
    assert accuracy != accuracy  # nan


def test_algorithm_1(monkeypatch, capsys):
    """The reference is the policy at the start of each round and stands still in it; the judge keeps its history."""
    lesson = module("iterative")
    apart, stood, taught = [], [], []
    step, with_replay = lesson.step, lesson.with_replay

    def watched(model, reference, *rest):
        weights = torch.cat([weight.flatten() for weight in reference.parameters()])
        now = torch.cat([weight.flatten() for weight in model.parameters()])
        apart.append(bool((weights != now).any()))
        stood.append(weights)
        return step(model, reference, *rest)

    def noted(new, history, share, rng):
        taught.append((list(new), list(history), share))
        return with_replay(new, history, share, rng)

    monkeypatch.setattr(lesson, "step", watched)
    monkeypatch.setattr(lesson, "with_replay", noted)
    sizes = ["--rounds", "2", "--steps", "2", "--prompts", "3", "--group", "4", "--budget", "20", "--lr", "1e-3"]
    monkeypatch.setattr(sys, "argv", ["iterative.py", *sizes])
    lesson.main()
    assert apart == [False, True, False, True]
    assert torch.equal(stood[0], stood[1])
    assert not torch.equal(stood[1], stood[2])
    (first, before_first, _), (second, before_second, share) = taught
    assert share == 0.1
    assert first
    assert before_first
    assert before_second == before_first + first
    assert second != first
    assert capsys.readouterr().out.count("round ") == 6


def untrained(folder: Path) -> str:
    model, tokenizer = tiny.build(0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_rounds_run_from_the_command_line():
    lines = run("iterative", "--rounds", "2", "--steps", "2")
    assert [line.split()[:4] for line in lines[:3]] == [
        ["round", "1", "step", "1"],
        ["round", "1", "step", "2"],
        ["round", "1", "judge", "right"],
    ]
    assert lines[5].startswith("round 2 judge    right on ")
    assert lines[6].startswith("for example: ")


def test_rounds_without_a_single_right_answer_run_through(tmp_path):
    # An untrained model: no pair for the judge in any round.
    lines = run("iterative", "--rounds", "2", "--steps", "1", "--model", untrained(tmp_path))
    assert "right on nan of 0 pairs" in lines[1]
    assert len(lines) == 5
