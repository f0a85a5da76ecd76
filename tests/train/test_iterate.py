"""Iterative RL around the loop: rounds, the reference that moves, and a judge that learns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scoreline.errors import ConfigError
from scoreline.objectives.zoo import grpo, naive
from scoreline.train.iterate import Reference, Round, Rounds, iterate
from scoreline.train.learner import LocalLearner
from scoreline.train.loop import Parts, train
from scoreline.train.schedule import Progress, first_progress
from scoreline.types import Metrics, Report
from tests.train.test_loop import assembled


def weights(made: Parts) -> list[Tensor]:
    assert isinstance(made.learner, LocalLearner)
    return [p.detach().clone() for p in made.learner.policy.model.parameters()]


def reference(made: Parts) -> list[Tensor]:
    assert isinstance(made.learner, LocalLearner)
    assert made.learner.reference is not None
    return [p.detach().clone() for p in made.learner.reference.model.parameters()]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def start(made: Parts) -> Progress:
    return first_progress(made.objective, made.warmup)


class Pupil:
    """Notes when it was asked to learn."""

    def __init__(self) -> None:
        self.rounds: list[int] = []

    def learn(self, number: int) -> Metrics:
        self.rounds.append(number)
        return {"judge/tokens": 100.0, "judge/accuracy": 0.5}


def test_one_round_without_a_judge_is_the_loop() -> None:
    plain, iterated = assembled(grpo, steps=2), assembled(grpo, steps=2)
    reports = list(train(plain, start(plain)))
    events = list(iterate(iterated, start(iterated), Rounds(), Reference(), None))
    assert [event.step for event in events] == [1, 2]
    assert all(isinstance(event, Report) for event in events)
    assert same(weights(plain), weights(iterated))
    assert [r.state for r in reports] == [e.state for e in events]


def test_each_round_begins_with_its_own_policy_as_reference() -> None:
    made = assembled(grpo, steps=6)
    first, seen = weights(made), []
    ends = {0: first}
    for event in iterate(made, start(made), Rounds(3), Reference(), None):
        if isinstance(event, Round):
            ends[event.number] = weights(made)
        else:
            seen.append(reference(made))
    expected = [ends[0], ends[0], ends[1], ends[1], ends[2], ends[2]]
    assert all(same(one, two) for one, two in zip(seen, expected, strict=True))
    assert not same(ends[0], ends[1])


def test_rounds_are_reported_after_their_last_step_and_count_the_judges_tokens() -> None:
    made, pupil = assembled(grpo, steps=4), Pupil()
    events = list(iterate(made, start(made), Rounds(2), Reference(), pupil))
    assert [(type(e).__name__, e.step) for e in events] == [
        ("Report", 1),
        ("Report", 2),
        ("Round", 2),
        ("Report", 3),
        ("Report", 4),
        ("Round", 4),
    ]
    assert pupil.rounds == [1, 2]
    before, after = events[1].state, events[2].state
    assert after["tokens"] == before["tokens"] + 100
    assert after["round"] == 1
    assert events[3].state["round"] == 1


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4, 5])
def test_any_state_goes_on_as_if_never_stopped(stop: int, tmp_path: Path) -> None:
    def events(made: Parts, progress: Progress, pupil: Pupil) -> Iterator[Report | Round]:
        return iterate(made, progress, Rounds(2), Reference(mix=0.7, every=2), pupil)

    whole, pupil = assembled(grpo, steps=4), Pupil()
    expected = [(e.step, e.state) for e in events(whole, start(whole), pupil)]
    stopped = assembled(grpo, steps=4)
    event = next(islice(events(stopped, start(stopped), Pupil()), stop, None))
    stopped.learner.save(tmp_path)
    resumed, again = assembled(grpo, steps=4), Pupil()
    resumed.learner.restore(tmp_path)
    rest = [(e.step, e.state) for e in events(resumed, Progress(**event.state), again)]
    assert rest == expected[stop + 1 :]
    assert same(weights(resumed), weights(whole))
    assert same(reference(resumed), reference(whole))
    assert again.rounds == pupil.rounds[len(pupil.rounds) - len(again.rounds) :]


def test_the_soft_update_is_tr_dpos() -> None:
    made = assembled(grpo)
    assert isinstance(made.learner, LocalLearner)
    old = reference(made)
    with torch.no_grad():
        for parameter in made.learner.policy.model.parameters():
            parameter.add_(1.0)
    made.learner.refresh(0.6)
    for new, before, now in zip(reference(made), old, weights(made), strict=True):
        torch.testing.assert_close(new, 0.6 * now + 0.4 * before)


def test_mix_one_is_the_policy_itself_and_mix_zero_changes_nothing() -> None:
    made = assembled(grpo, steps=1)
    old = reference(made)
    list(train(made, start(made)))
    made.learner.refresh(0.0)
    assert same(reference(made), old)
    made.learner.refresh(1.0)
    assert same(reference(made), weights(made))


def test_an_objective_without_a_reference_has_rounds_all_the_same() -> None:
    made = assembled(naive, steps=2)
    events = list(iterate(made, start(made), Rounds(2), Reference(), None))
    assert sum(isinstance(event, Round) for event in events) == 2


def test_a_reference_that_never_moved_is_not_saved(tmp_path: Path) -> None:
    made = assembled(grpo)
    made.learner.save(tmp_path)
    assert not (tmp_path / "reference.safetensors").exists()


@pytest.mark.parametrize("wrong", [{"mix": 1.2}, {"mix": -0.1}, {"every": 0}])
def test_impossible_references_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="reference"):
        replace(Reference(), **wrong)  # type: ignore[arg-type]


def test_no_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="rounds"):
        Rounds(0)
