"""The parts of the model alone, worked by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from free_rates import NOTHING, rates
from scaling_learning import Exchange, Phase, controlling, dealt, delivering, exchanging, learning, publishing
from scaling_model import (
    Cluster,
    Constant,
    Lognormal,
    Rates,
    Recorded,
    Work,
    as_json,
    chains,
    decoded,
    decoding,
    from_json,
    unit_seconds,
)
from scaling_rates import FAILURES, H100, LARGE, SMALL, stated

from scoreline.errors import ConfigError


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


def test_a_batch_decodes_as_long_as_its_longest_row_and_each_token_of_it() -> None:
    # 3 iterations of 1 s; 3, 2, 1 rows in flight at 0.1 s a row and iteration: 3 + 0.6
    assert decoded(array(1, 2, 3), rates(decode_step=1, decode_row=0.1)) == pytest.approx(3.6)


def test_the_clock_of_a_batch_ends_with_it() -> None:
    iterations, seconds = decoding(array(3, 1, 2), rates(decode_step=1, decode_row=0.1))
    assert iterations.tolist() == [0, 1, 2, 3]
    assert seconds.tolist() == pytest.approx([0, 1.3, 2.5, 3.6])


def test_an_answer_enters_where_another_has_ended() -> None:
    assert sorted(chains(array(5, 1, 2, 4), 2).tolist()) == [5, 7]  # 5 | 1 + 2 + 4
    assert chains(array(5, 1), 2).tolist() == [5, 1]


def test_a_unit_pays_for_its_call_and_each_prompt_once() -> None:
    work = Work(questions=2, answers=2, prompt=10, lengths=Constant(4))
    told = rates(unit=0.5, prefill=0.01, decode_step=1)
    assert unit_seconds(array(4, 4, 4, 4), work, told) == pytest.approx(0.5 + 2 * 10 * 0.01 + 4)


def test_whole_groups_go_to_whoever_has_least() -> None:
    lengths = np.array([[4.0, 4.0], [3.0, 3.0], [1.0, 1.0]])
    assert sorted(dealt(lengths, 2, prompt=0).tolist()) == [8, 8]  # 8 | 6 + 2
    assert sorted(dealt(lengths, 2, prompt=1).tolist()) == [9, 10]  # a group's question is computed once


def test_rows_are_dealt_where_there_are_fewer_groups_than_ranks() -> None:
    assert sorted(dealt(np.array([[4.0, 1.0, 3.0]]), 2, prompt=0).tolist()) == [4, 4]


def whole(phases: Iterable[Phase]) -> list[float]:
    """Seconds of each phase."""
    return [phase.asked + float(phase.computing.max()) + phase.exchanging for phase in phases]


def test_learning_is_as_slow_as_the_busiest_rank() -> None:
    work = Work(questions=2, answers=1, prompt=0, lengths=Constant(1), updates=2)
    lengths = np.array([[3.0], [5.0]])
    told = rates(annotate=1, learn=2, update=0.5)
    assert whole(learning(lengths, work, Cluster(1, 1), told)) == pytest.approx([8, 6.5, 10.5])
    # one group a minibatch: the other rank has nothing to do
    assert whole(learning(lengths, work, Cluster(2, 1), told)) == pytest.approx([5, 6.5, 10.5])
    assert whole(learning(lengths, work, Cluster(2, 1), replace(told, skew=0.1))) == pytest.approx([5.5, 7.15, 11.55])


def test_each_pass_pays_for_its_call_what_it_sends_and_its_micro_batches() -> None:
    work = Work(questions=2, answers=2, prompt=0, lengths=Constant(1), updates=2)
    lengths = np.array([[1.0, 3.0], [2.0, 5.0]])  # 11 tokens, minibatches of 4 and 7
    told = rates(ask=1, send=0.1, passes=0.25, turn=0.5, micro=4)
    assert whole(learning(lengths, work, Cluster(1, 1), told)) == pytest.approx(
        [1 + 1.1 + 3 * 0.25, 1 + 0.4 + 0.5, 1 + 0.7 + 1]
    )
    alone = Cluster(1, 1, shared=True)
    assert whole(learning(lengths, work, alone, told)) == pytest.approx([0.75, 0.5, 1]), "one process calls nobody"


def test_the_loop_pays_for_answers_tokens_and_places() -> None:
    told = rates(control=1, handle=0.5, carry=0.1, pad=0.01)
    assert controlling(np.array([[1.0, 3.0], [2.0, 5.0]]), told) == pytest.approx(1 + 4 * 0.5 + 11 * 0.1 + 20 * 0.01)


def test_an_exchange_is_paid_once_a_micro_batch() -> None:
    told, moved = rates(micro=100, within=100, between=10, node=2, latency=0.5, hop=0.25, leap=2.0), Exchange(3, 800)
    assert exchanging(array(250, 10), 1, told, moved) == 0
    assert exchanging(array(250, 10), 2, told, moved) == pytest.approx(3 * (3 * 0.75 + 800 / 2 / 100))
    # two nodes of two: a ring of two hops and one leap
    assert exchanging(array(250, 10), 4, told, moved) == pytest.approx(3 * (3 * 3.0 + 800 * 3 / 4 / 10))


def test_a_micro_batch_without_an_end_is_one() -> None:
    assert exchanging(array(250), 2, rates(latency=0.5), Exchange(3, 0)) == pytest.approx(1.5)


def test_an_exchange_hides_behind_computing() -> None:
    work = Work(questions=2, answers=1, prompt=0, lengths=Constant(1))
    lengths, told = np.array([[10.0], [10.0]]), rates(learn=1, micro=100, exchange=8, within=1)  # 4 s of exchange
    shown = [whole(learning(lengths, work, Cluster(2, 1, hidden=h), told)) for h in (False, True)]
    assert shown == [[14], [10]]


def test_weights_reach_the_workers_by_a_tree_or_along_a_ring() -> None:
    told = rates(weights=64, within=1, between=1)
    assert delivering(Cluster(1, 7), told) == pytest.approx(3 * 64)
    assert delivering(Cluster(1, 7, route="ring"), told) == pytest.approx(64 + 6)
    assert delivering(Cluster(2, 2, shared=True), told) == 0
    assert publishing(Cluster(4, 1), replace(told, call=2.0)) == pytest.approx(2 + 48)
    assert publishing(Cluster(4, 1), replace(told, tensors=5, join=0.1, hop=0.2)) == pytest.approx(5 * 0.7 + 48)
    assert publishing(Cluster(1, 1), replace(told, tensors=5, join=0.1, hop=0.2)) == 0


def test_recorded_answers_keep_their_mean_and_their_ends() -> None:
    drawn = Recorded(((8.0, 2.0, 30.0), (5.0, 5.0, 5.0))).draw(np.random.default_rng(0), 0, (100, 8))
    assert drawn.mean() == pytest.approx(8, abs=1.5)
    assert drawn.min() >= 2
    assert drawn.max() <= 30
    again = Recorded(((8.0, 2.0, 30.0), (5.0, 5.0, 5.0))).draw(np.random.default_rng(0), 3, (2, 2))
    assert again.tolist() == [[5, 5], [5, 5]]


def test_lengths_are_a_function_of_seed_and_step() -> None:
    work = Work(4, 4, 0, Lognormal(100, 0.8, 400))
    assert (work.drawn(1, 2) == work.drawn(1, 2)).all()
    assert (work.drawn(1, 2) != work.drawn(1, 3)).any()
    assert Lognormal(100, 0.8, 1e9).draw(np.random.default_rng(0), 0, (500, 100)).mean() == pytest.approx(100, rel=0.02)


def test_every_rate_has_its_source() -> None:
    told = stated(SMALL, 2000)
    assert from_json(as_json(told)) == told  # type: ignore[arg-type]
    values = {name: getattr(told, name) for name in NOTHING}
    with pytest.raises(ConfigError, match="no source"):
        Rates(**values, sources={})


def test_stated_rates_are_the_sheets_times_a_share() -> None:
    told = stated(SMALL, 1000)
    assert told.learn == pytest.approx(6 * 1.54e9 / (0.4 * 989e12))
    assert told.decode_step == pytest.approx(2 * 1.54e9 / (0.6 * 3.35e12))
    assert told.mtbf / 3600 == pytest.approx(50_679, rel=1e-3)
    assert FAILURES[0] == told.mtbf
    assert (told.least, stated(LARGE, 1000).least) == (1, 3), "eight billion parameters and their moments need three"
    assert stated(LARGE, 2248).rows < 256 <= told.rows
    assert told.between * 9 == pytest.approx(told.within)
    assert H100.node == 8
    assert (told.collectives, told.gathers, told.tensors) == (86, 58, 339), "28 layers"


def test_shared_devices_take_turns() -> None:
    with pytest.raises(ConfigError, match="by turns"):
        Cluster(2, 2, max_staleness=1, shared=True)
    with pytest.raises(ConfigError, match="one unit at a time"):
        Cluster(1, 1, cores=2, at_once=2)
