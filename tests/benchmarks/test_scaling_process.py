"""The whole model: hand-worked runs, bounds that always hold, determinism."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import scaling_process
from free_rates import rates
from scaling_model import Array, Cluster, Constant, Generator, Lognormal, Work, fastest
from scaling_process import simulate

from scoreline.errors import ConfigError

TEN = Work(questions=4, answers=2, prompt=0, lengths=Constant(10))
LONG = Work(questions=16, answers=4, prompt=5, lengths=Lognormal(100, 1.0, 1000), updates=2)
BUSY = rates(decode_step=0.01, decode_row=0.001, prefill=1e-4, unit=0.05, learn=4e-4, update=0.05, score=1e-3, call=0.1)


@dataclass(frozen=True)
class Straggling:
    """One answer of the first question is ten times as long."""

    def draw(self, random: Generator, step: int, shape: tuple[int, int]) -> Array:
        lengths = np.full(shape, 10.0)
        lengths[0, 0] = 100.0
        return lengths


def test_without_overlap_a_step_is_the_sum_of_its_parts() -> None:
    told = rates(decode_step=0.01, decode_row=0.001, unit=0.5, annotate=0.002, learn=0.003, update=0.1)
    told = replace(told, score=0.01, call=0.2, weights=30.0, within=10.0, load=0.25)
    found = simulate(TEN, Cluster(1, 1, unit=2), told)
    sampled = 2 * (0.5 + 0.01 * 10 + 0.001 * 40)
    learned = 80 * 0.002 + 80 * 0.003 + 0.1
    synced = 0.2 + 30 / 10 + 0.25
    assert found.seconds_per_step == pytest.approx(sampled + 8 * 0.01 + learned + synced)
    assert found.waited == pytest.approx(sampled / found.seconds_per_step)
    assert found.sampled == pytest.approx(sampled / found.seconds_per_step)
    assert found.tokens_per_second == pytest.approx(80 / found.seconds_per_step)
    assert found.staleness == {0: 1.0}


@pytest.mark.parametrize("learn", [0.001, 0.01])
def test_overlapped_a_step_is_its_longest_part(learn: float) -> None:
    told = rates(decode_step=0.03, decode_row=0.001, learn=learn, score=0.01)
    found = simulate(TEN, Cluster(1, 1, max_staleness=1, overlap=True), told)
    assert found.seconds_per_step == pytest.approx(max(0.03 * 10 + 0.001 * 80, 80 * learn + 8 * 0.01))


def test_one_straggler_holds_up_a_synchronous_step() -> None:
    work, told = replace(TEN, lengths=Straggling()), rates(decode_step=0.01, learn=0.001)
    found = simulate(work, Cluster(1, 4, unit=1), told)
    assert found.seconds_per_step == pytest.approx(100 * 0.01 + (7 * 10 + 100) * 0.001)
    ahead = simulate(work, Cluster(1, 4, max_staleness=4, unit=1, overlap=True), told)
    # four workers share 1.0 + 3 x 0.1 s of sampling a step
    assert ahead.seconds_per_step == pytest.approx(1.3 / 4, rel=0.1)


def test_several_units_at_once_share_the_steps_of_decoding() -> None:
    told = rates(decode_step=0.01, decode_row=0.001)
    one = simulate(TEN, Cluster(1, 1, unit=1), told).seconds_per_step
    four = simulate(TEN, Cluster(1, 1, unit=1, at_once=4), told).seconds_per_step
    assert one == pytest.approx(4 * (0.1 + 20 * 0.001))
    assert four == pytest.approx(0.1 + 80 * 0.001)


def test_a_unit_that_comes_later_joins_those_in_flight() -> None:
    # two workers, two places each; the long unit goes on while short ones of the next step come and go beside it
    work, told = replace(TEN, lengths=Straggling()), rates(decode_step=0.01)
    alone = simulate(work, Cluster(1, 2, max_staleness=4, unit=1, overlap=True), told).seconds_per_step
    beside = simulate(work, Cluster(1, 2, max_staleness=4, unit=1, overlap=True, at_once=4), told).seconds_per_step
    assert alone == pytest.approx(1.3 / 2, rel=0.1)
    assert beside < 0.6 * alone


@pytest.mark.parametrize("staleness", [0, 1, 2, 4])
@pytest.mark.parametrize("at_once", [1, 3])
def test_staleness_is_never_above_its_bound(staleness: int, at_once: int) -> None:
    for workers in (1, 3, 8):
        made = Cluster(2, workers, staleness, unit=1, overlap=True, at_once=at_once)
        found = simulate(LONG, made, replace(BUSY, weights=1.0, within=2.0), seed=workers)
        assert max(found.staleness) <= staleness
        assert min(found.staleness) >= 0
        assert sum(found.staleness.values()) == pytest.approx(1)


def test_throughput_never_rises_above_what_the_workers_can_do() -> None:
    for workers in (1, 2, 8):
        for staleness in (0, 4):
            found = simulate(LONG, Cluster(4, workers, staleness, unit=2, overlap=True, at_once=2), BUSY)
            assert found.tokens_per_second <= fastest(BUSY, workers)
            assert 0 < found.filled <= found.sampled <= 1 + 1e-9


def test_the_same_seed_gives_the_same_numbers() -> None:
    made = Cluster(2, 4, 2, unit=1, overlap=True, failing=True, saved=2)
    told = replace(BUSY, mtbf=60.0, replace=1.0, restart=2.0)
    assert simulate(LONG, made, told, seed=3) == simulate(LONG, made, told, seed=3)
    assert simulate(LONG, made, told, seed=3) != simulate(LONG, made, told, seed=4)


def test_shares_of_the_learners_time_add_up() -> None:
    found = simulate(LONG, Cluster(2, 2, 1, unit=4), BUSY)
    assert found.waited + found.scored + found.learned + found.synced == pytest.approx(1)


def test_failures_cost_time_and_lose_no_step() -> None:
    calm = Cluster(2, 4, 1, unit=1, overlap=True, saved=4)
    told = replace(BUSY, mtbf=40.0, replace=3.0, restart=5.0, checkpoint=0.1)
    quiet, rough = simulate(LONG, calm, told, steps=40), simulate(LONG, replace(calm, failing=True), told, steps=40)
    assert (quiet.failures, quiet.lost) == (0, 0)
    assert rough.failures > 3
    assert rough.lost > 0
    assert (rough.steps, rough.tokens) == (quiet.steps, quiet.tokens), "the same answers are learned from"
    assert rough.seconds > quiet.seconds
    assert max(rough.staleness) <= 1


def test_a_worker_that_fails_costs_its_unit_and_its_replacement() -> None:
    # one worker, failures far apart: each costs at most the unit's seconds and the replacement
    told = rates(decode_step=0.1, mtbf=30.0, replace=2.0)
    made = Cluster(1, 1, unit=4, failing=True)
    found = simulate(TEN, made, replace(told, restart=0.0), steps=100, warm=0, seed=5)
    assert found.failures > 0
    assert 100 < found.seconds <= 100 + found.failures * (1.0 + 2.0) + found.lost


def test_cores_are_shared_by_turns() -> None:
    told = rates(decode_step=0.05)
    two, four = (simulate(TEN, Cluster(1, n, unit=1, cores=2), told) for n in (2, 4))
    assert two.seconds_per_step == pytest.approx(1.0, rel=0.05)
    assert four.seconds_per_step == pytest.approx(1.0, rel=0.05), "four workers on two cores are no faster"


def test_busy_cores_slow_one_another_down() -> None:
    told = rates(decode_step=0.05, crowd=0.1)
    one, two = (simulate(TEN, Cluster(1, n, unit=4 // n, cores=2), told) for n in (1, 2))
    assert one.seconds_per_step == pytest.approx(0.5)
    assert two.seconds_per_step == pytest.approx(0.55, rel=0.02)


def test_operations_stall_where_learners_lack_a_core() -> None:
    told = rates(decode_step=1e-6, learn=0.01, latency=0.1, collectives=3, stall=0.5)
    two, three = (simulate(TEN, Cluster(n, 1, cores=2), told).seconds_per_step for n in (2, 3))
    assert two == pytest.approx(0.4 + 0.3, rel=0.02)  # 40 tokens each, three operations
    # 40, 20 and 20 tokens on two cores; an operation of three takes two turns, and waits
    assert three == pytest.approx(0.4 + 3 * (0.2 + 0.5), rel=0.05)


def test_shared_devices_do_one_thing_after_the_other() -> None:
    told = rates(decode_step=0.01, learn=0.001)
    found = simulate(TEN, Cluster(2, 2, shared=True), told)
    assert found.seconds_per_step == pytest.approx(0.1 + 0.001 * 40)


def test_without_simpy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling_process, "simpy", None)
    with pytest.raises(ConfigError, match=r"SimPy is not installed(.|\n)*scoreline\[dev\]"):
        simulate(TEN, Cluster(1, 1), BUSY)
