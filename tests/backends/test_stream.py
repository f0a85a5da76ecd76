"""Weights that one process sends and a vLLM in another takes in: the bits of a reload, and partners that are lost."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import torch
from torch import Tensor

from scoreline.backends.stream import LOST, Streamed, columns, place
from scoreline.backends.transfer import GLOO, NCCL, Seat, Source, described
from scoreline.backends.vllm import Serving, Vllm, VllmEngine
from scoreline.models.adapters import Lora, attach
from scoreline.models.policy import Policy
from scoreline.objectives.zoo import grpo
from scoreline.rollout.engine import Sampling
from scoreline.train.learner import LocalLearner
from scoreline.types import Request
from tests import parts

needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)")
SHAPE: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
ASKED = [Request((5, 6, i), (0, 0, i, j)) for i in range(3) for j in range(2)]
SAMPLED = Sampling(max_completion_length=8)
PATIENCE = 90.0


def policy(seed: int, **told: Any) -> Policy:
    """A small model whose head is its embedding; head sizes that vLLM has on a CPU."""
    return parts.policy("llama", seed=seed, tie_word_embeddings=True, max_position_embeddings=64, **SHAPE, **told)


def adapted(seed: int) -> Policy:
    """The same under an adapter that has learned something."""
    pytest.importorskip("peft")
    made = policy(0)
    torch.manual_seed(seed)
    attach(made.model, Lora(rank=2))
    with torch.no_grad():
        for weight in made.weights().values():
            weight.add_(0.1 * torch.randn_like(weight))
    return made


def learner(actor: Policy) -> LocalLearner:
    return LocalLearner(actor, grpo)


def seat(world: int = 2, precision: str = "fp32") -> Seat:
    """The first place of a group that will meet on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Seat(f"127.0.0.1:{port}", port, 0, world, PATIENCE, GLOO, precision)


def send(first: Seat, seeds: list[int]) -> None:
    """In a process of its own: the weights of some learners, one after the other, in one group."""
    stream = Streamed()
    stream.sit(first)
    for one in seeds:
        stream.sent(Source(learner(policy(one)), first.precision))


def find_out(first: Seat) -> None:
    """In a process of its own: a sender that must see that it lost a receiver, and gathers its weights to the last."""
    stream, source = Streamed(), Source(learner(policy(1)), first.precision)
    stream.sit(first)
    try:
        stream.sent(source)
    except LOST:
        source.exhaust()
        os._exit(7 if next(source.weights, None) is None and stream.trainer is None else 8)


def die(place: Seat, after: int) -> None:
    """In a process of its own: a receiver that ends in the middle of a stream."""
    from scoreline.backends.gloo import Group

    group = Group(place.meeting, place.number, place.world, place.patience)
    for one in islice(described(policy(1), place.precision), after):
        group.broadcast(torch.empty(one.shape, dtype=one.dtype))
    os._exit(0)


def fall_silent(place: Seat) -> None:
    """In a process of its own: a receiver that is there and takes nothing."""
    from scoreline.backends.gloo import Group

    group = Group(place.meeting, place.number, place.world, place.patience)
    time.sleep(2 * place.patience)
    del group


def beside(what: Any, *told: Any) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=what, args=told)
    process.start()
    return process


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    settings = Vllm(context=64, memory=0.002, rows=8, eager=True)
    made = VllmEngine(policy(0), settings, SAMPLED, [request.prompt_ids for request in ASKED], Serving(GLOO))
    yield made
    made.close()


def inside(engine: VllmEngine) -> dict[str, Tensor]:
    """What vLLM computes with."""
    return engine.llm.apply_model(lambda model: {k: v.clone() for k, v in model.state_dict().items()})[0]


def same(engine: VllmEngine, actor: Policy) -> None:
    """What vLLM has now is what a reload of this policy leaves, to the bit, and it samples the same."""
    streamed, answers, version = inside(engine), engine.generate(ASKED, SAMPLED), engine.flight.version
    before, engine.policy = engine.policy, actor
    engine.load(version)
    whole = inside(engine)
    assert streamed.keys() == whole.keys()
    assert all(torch.equal(streamed[name], whole[name]) for name in whole)
    assert engine.generate(ASKED, SAMPLED) == answers
    assert engine.probe().within(1e-4, 1e-3)
    engine.policy = before


@needs_vllm
def test_streamed_weights_are_those_of_a_reload(engine: VllmEngine) -> None:
    first = seat()
    process = beside(send, first, [1, 2, 3])
    for version in (1, 2, 3):
        engine.receive(version, first.at(1))
        assert {answer.version for answer in engine.generate(ASKED, SAMPLED)} == {version}
    same(engine, policy(3))
    process.join()
    assert process.exitcode == 0


@needs_vllm
@pytest.mark.parametrize("after", [0, 5])
def test_a_receiver_that_dies_in_the_middle_is_found_out_by_all(engine: VllmEngine, after: int) -> None:
    first = seat(world=3)
    sender, victim = beside(find_out, first), beside(die, first.at(2), after)
    with pytest.raises(LOST):
        engine.receive(5, first.at(1))
    sender.join(PATIENCE)
    victim.join()
    assert sender.exitcode == 7
    assert engine.stream.seat is None
    engine.load(6)
    assert engine.probe().within(1e-4, 1e-3), "a reload makes good what the stream left half done"
    again = seat()
    process = beside(send, again, [7])
    engine.receive(7, again.at(1))
    same(engine, policy(7))
    process.join()


@needs_vllm
def test_a_receiver_that_falls_silent() -> None:
    """The weights are more than a socket holds by itself: what is smaller is on its way, and nobody waits for it."""
    first = replace(seat(), patience=30.0)
    process, stream = beside(fall_silent, first.at(1)), Streamed()
    source = Source(learner(policy(1, intermediate_size=1 << 17)), first.precision)
    stream.sit(first)
    started = time.monotonic()
    with pytest.raises(LOST):
        stream.sent(source)
    assert time.monotonic() - started < 3 * first.patience
    process.kill()
    process.join()


@needs_vllm
def test_a_sender_that_never_comes(engine: VllmEngine) -> None:
    with pytest.raises(LOST):
        engine.receive(8, replace(seat(), patience=1.0).at(1))
    engine.load(9)
    assert engine.probe().within(1e-4, 1e-3)


@needs_vllm
def test_bf16_travels_as_bf16() -> None:
    first = seat(precision="bf16")
    settings = Vllm(context=64, memory=0.002, rows=8, eager=True, dtype="bf16")
    made = VllmEngine(policy(0), settings, SAMPLED, [ASKED[0].prompt_ids], Serving(GLOO))
    process = beside(send, first, [1])
    made.receive(1, first.at(1))
    streamed, made.policy = inside(made), policy(1)
    made.load(2)
    assert all(torch.equal(weight, streamed[name]) for name, weight in inside(made).items())
    assert streamed["model.embed_tokens.weight"].dtype == torch.bfloat16
    made.close()
    process.join()


@needs_vllm
def test_vllms_own_engine_takes_what_it_is_told() -> None:
    """Nothing is sent here: NCCL needs GPUs. The names of what it is told are checked, by vLLM's own classes."""
    from vllm.distributed.weight_transfer.nccl_engine import (
        NCCLTrainerInitInfo,
        NCCLWeightTransferInitInfo,
        NCCLWeightTransferUpdateInfo,
    )

    told = NCCLWeightTransferInitInfo(**place(replace(seat(world=3), backend=NCCL).at(2)))
    trainers = NCCLTrainerInitInfo(master_address="127.0.0.1", master_port=1, world_size=3, rank=0)
    assert (told.rank_offset, told.world_size) == (2, 3)
    for name in ("packed", "packed_buffer_size_bytes", "packed_num_buffers"):
        assert getattr(told, name) == getattr(trainers, name), f"the two ends disagree about {name}"
    NCCLWeightTransferUpdateInfo(**columns(described(policy(0), "bf16")))


def test_both_ends_describe_the_same_weights_in_one_order() -> None:
    for made in (policy(0), adapted(1)):
        source = Source(learner(made), "bf16")
        told, sent = source.metadata(), list(source)
        assert [(name, weight.dtype, tuple(weight.shape)) for name, weight in sent] == [tuple(one) for one in told]
        assert told == described(policy(2), "bf16"), "also under an adapter, whose own weights have no name there"
        assert {one.kind for one in told} == {"bfloat16"}


def test_the_rest_is_gathered_come_what_may() -> None:
    source = Source(learner(policy(0)), "fp32")
    assert len(list(islice(source, 3))) == 3
    source.exhaust()
    assert list(source) == []
