"""A rollout worker's weights, without a cluster: between units, and in the middle of one from another thread."""

from __future__ import annotations

import threading
from pathlib import Path

import torch

from scoreline.backends.cluster.process import Setting
from scoreline.backends.cluster.worker import Inbox, Worker
from scoreline.backends.transfer import Arrays, WholeTensors
from scoreline.models.policy import Policy
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import LocalEngine
from scoreline.types import Request
from tests import parts

TRANSFER = WholeTensors()


def sent(scale: float) -> Arrays:
    return TRANSFER.sent((name, weight * scale) for name, weight in parts.policy().weights().items())


def holds(policy: Policy, arrays: Arrays) -> bool:
    return all(torch.equal(w, torch.from_numpy(arrays[name])) for name, w in policy.weights().items())


def make() -> tuple[Policy, LocalEngine]:
    policy = parts.policy()
    return policy, LocalEngine(policy)


def test_of_what_came_only_the_newest_is_taken() -> None:
    policy = parts.policy()
    inbox = Inbox(TRANSFER, policy)
    assert not inbox.waiting()
    for version, scale in ((1, 1.1), (3, 1.3), (2, 1.2)):
        inbox.put(version, sent(scale))
    assert inbox.take() == 3
    assert holds(policy, sent(1.3))
    assert not inbox.waiting()
    inbox.put(2, sent(1.2))
    assert not inbox.waiting(), "a call that was overtaken takes nothing back"


def test_what_came_in_flight_is_not_loaded_twice(tmp_path: Path) -> None:
    worker = Worker(make, TRANSFER, Setting("worker", "cpu", torch.get_num_threads(), 0, str(tmp_path / "none")))
    worker.whereabouts()
    worker.load(0, sent(1.0))
    worker.offer(1, sent(1.1))
    answers, _ = worker.generate([Request((5, 6), (0, 0, 0, j)) for j in range(4)], Sampling(max_completion_length=6))
    assert worker.engine.version == 1 if isinstance(worker.engine, LocalEngine) else False
    assert all(answer.version == 0 for answer in answers), "the first token was drawn before they were taken"
    with torch.no_grad():
        next(iter(worker.policy.weights().values())).add_(1.0)  # a second copy would undo this
    worker.load(1, sent(1.1))
    assert not holds(worker.policy, sent(1.1))
    worker.load(2, sent(1.2))
    assert holds(worker.policy, sent(1.2))


def test_another_thread_hands_weights_to_answers_in_flight(tmp_path: Path) -> None:
    worker = Worker(make, TRANSFER, Setting("worker", "cpu", torch.get_num_threads(), 0, str(tmp_path / "none")))
    worker.whereabouts()
    worker.load(0, sent(1.0))
    requests = [Request((5, 6, i), (0, 0, i, j)) for i in range(8) for j in range(8)]
    other = threading.Thread(target=lambda: [worker.offer(version, sent(1 + version / 50)) for version in range(1, 9)])
    other.start()
    answers, seconds = worker.generate(requests, Sampling(max_completion_length=64))
    other.join()
    assert seconds > 0
    for answer in answers:
        assert list(answer.versions) == sorted(answer.versions)
        assert len(answer.versions) in (0, len(answer.token_ids))
    assert any(answer.versions for answer in answers)
