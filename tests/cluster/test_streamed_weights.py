"""Weights that vLLM's own transfer takes to two workers: the tokens are those of the object store, whoever dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from scoreline.backends.cluster.channel import Channel
from scoreline.backends.cluster.pool import RolloutPool
from scoreline.models.adapters import Lora
from tests.cluster.killing import GENERATING, Killer, killing
from tests.cluster.small_run import completions, left, metrics
from tests.cluster.vllm_run import STEPS, taught

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)"),
]
RECEIVING = "ray::Worker.receive"


@dataclass
class Seen:
    """What streams did, and whom they hit."""

    streams: list[bool] = field(default_factory=list)
    groups: set[int] = field(default_factory=set)
    victims: dict[int, str] = field(default_factory=dict)
    killed: list[str] = field(default_factory=list)
    under_way: list[bool] = field(default_factory=list)
    """Whether workers were in the middle of units when new weights came, step by step."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Notes every stream, lets every step wait until all workers are admitted, and kills where `victims` says so: at
    so many streams before, a worker that does this.
    """
    noted, send, generate, load = Seen(), Channel.send, RolloutPool.generate, RolloutPool.load

    def hit(what: str, act: Callable[[], Any]) -> Any:
        if noted.victims.get(len(noted.streams)) != what:
            return act()
        del noted.victims[len(noted.streams)]
        with killing(Killer(lambda: what, 1, lambda: 0.0)) as killer:
            done = act()
        noted.killed += killer.killed
        return done

    def sent(self: Channel) -> bool:
        noted.streams.append(hit(RECEIVING, lambda: send(self)))
        noted.groups.add(self.groups)
        return noted.streams[-1]

    def generated(self: RolloutPool, *asked: Any) -> Any:
        self.open()
        return hit(GENERATING, lambda: generate(self, *asked))

    def loaded(self: RolloutPool, version: int) -> None:
        noted.under_way.append(any(job.unit is not None for job in self.jobs.values()))
        load(self, version)

    monkeypatch.setattr(RolloutPool, "load", loaded)
    monkeypatch.setattr(Channel, "send", sent)
    monkeypatch.setattr(RolloutPool, "generate", generated)
    yield noted
    assert not noted.victims


def test_the_tokens_are_those_of_the_store_whoever_dies(cluster: str, model: Path, tmp_path: Path, seen: Seen) -> None:
    both = {"learners": 2, "rollouts": 2}
    store = taught(tmp_path / "store", cluster, model, "store", **both)
    assert seen.streams == []
    stream = taught(tmp_path / "stream", cluster, model, "stream", **both)
    assert (seen.streams, len(seen.groups)) == ([True] * STEPS, 1), "one group is enough where nobody dies"
    assert completions(stream) == completions(store), "with versions and log-probabilities"
    assert left(stream) == left(store)
    assert len({answer["completion"] for step in completions(store) for answer in step}) > 1
    assert "vLLM's weight transfer (scoreline-gloo), fp32" in (stream / "environment.json").read_text()

    seen.streams.clear()
    seen.victims |= {1: GENERATING, 3: RECEIVING}
    killed = taught(tmp_path / "killed", cluster, model, "stream", **both)
    assert seen.killed == [GENERATING, RECEIVING]
    assert seen.streams.count(False) == 1
    assert seen.streams[-1], "the group is formed anew with the worker that came in place of the dead one"
    assert "a stream was lost" in (killed / "log.txt").read_text()
    assert sum(row["rollouts/restarts"] for row in metrics(killed)) == 2
    assert completions(killed) == completions(store)
    assert left(killed) == left(store)


def test_an_adapter_is_streamed_as_part_of_the_weights(cluster: str, model: Path, tmp_path: Path, seen: Seen) -> None:
    pytest.importorskip("peft")
    store, stream = (taught(tmp_path / by, cluster, model, by, 3, Lora(rank=4)) for by in ("store", "stream"))
    assert seen.streams == [True] * 3
    assert completions(stream) == completions(store), "with versions and log-probabilities"
    assert left(stream) == left(store)


def test_asynchronous_streams_keep_the_bound_though_one_is_lost(
    cluster: str, model: Path, tmp_path: Path, seen: Seen
) -> None:
    bound, steps = 4, 8
    seen.victims[2] = RECEIVING
    more = {"rollouts": 2, "max_staleness": bound, "rows": 4, "length": 40}
    run = taught(tmp_path, cluster, model, "stream", steps, **more)
    rows = metrics(run)
    assert seen.killed == [RECEIVING]
    assert seen.streams.count(False) == 1
    assert seen.streams[-1], "and the worker that came is of the next group"
    assert any(seen.under_way), "weights come while workers sample"
    assert max(row["staleness/max"] for row in rows) == bound, "one worker samples ahead while the other one starts"
    assert sum(row["rollouts/dropped"] for row in rows) == 0
    assert sum(row["rollouts/restarts"] for row in rows) == 1
    assert any(row["sampling/importance_ratio"] != 1 for row in rows)
    for step, answers in enumerate(completions(run)):
        assert {answer["version"] for answer in answers} <= set(range(step - bound, step + 1))
