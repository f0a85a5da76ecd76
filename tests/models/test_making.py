"""Models for several processes: what is noted of them, their shapes without numbers, and copies that share memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scoreline.errors import ModelError
from scoreline.models.critic import CriticConfig, make_critic
from scoreline.models.loading import load_causal_lm
from scoreline.models.making import Making, confirmed, emptied, making, reads, together
from scoreline.models.policy import Model, Policy, load_policy
from tests import parts


def outline(model: Any) -> list[tuple[str, tuple[int, ...], torch.dtype, bool]]:
    """Names, shapes and types of weights and buffers; a tied one comes twice."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return [(name, tuple(one.shape), one.dtype, one.requires_grad) for name, one in named]


def made_twice(make: Any) -> tuple[Any, Any]:
    """By a process that reads, and by one that does not."""
    first = Making()
    with making(first):
        whole = make()
    with making(Making(first.note)):
        return whole, make()


@pytest.mark.parametrize("architecture", parts.ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_shapes_are_those_of_the_model_that_is_read(architecture: str, tied: bool, tmp_path: Path) -> None:
    parts.policy(architecture, tie_word_embeddings=tied).save(tmp_path)
    whole, shapes = made_twice(lambda: load_policy(Model(path=str(tmp_path), device="cpu")))
    assert outline(whole.model) == outline(shapes.model)
    assert all(weight.is_meta for weight in shapes.model.parameters())
    assert (whole.packs, whole.vocabulary, whole.context) == (shapes.packs, shapes.vocabulary, shapes.context)
    ties = [
        model.get_input_embeddings().weight is model.get_output_embeddings().weight
        for model in (whole.model, shapes.model)
    ]
    assert ties == [tied, tied]
    assert whole.model.generation_config.to_dict() == shapes.model.generation_config.to_dict()


def test_outside_a_process_makes_models_for_itself(tmp_path: Path) -> None:
    parts.policy("llama").save(tmp_path)
    with making(Making([])):
        assert (together(), reads()) == (True, False)
        assert load_causal_lm("tiny:init").get_input_embeddings().weight.device.type == "cpu", "small: it may be whole"
    assert (together(), reads()) == (False, True)
    assert confirmed("anything", lambda: True)
    assert not load_causal_lm(str(tmp_path)).get_input_embeddings().weight.is_meta


def test_a_question_that_was_not_asked_is_an_error() -> None:
    first = Making()
    with making(first):
        assert [confirmed(q, a) for q, a in (("one", lambda: True), ("two", lambda: False))] == [True, False]
    assert first.note == [("one", True), ("two", False)]
    with making(Making(first.note)):
        assert confirmed("one", lambda: False), "the probe is not run again"
        with pytest.raises(ModelError, match="'three' is asked about the model here, 'two' on rank 0"):
            confirmed("three", lambda: True)
        with pytest.raises(ModelError, match="'four' is asked about the model here, '' on rank 0"):
            confirmed("four", lambda: True)


def test_copies_share_memory_until_they_are_dealt() -> None:
    def family() -> tuple[Policy, Policy, Any]:
        policy = parts.policy("llama")
        return policy, policy.frozen(), make_critic(CriticConfig(), policy).trunk

    with making(Making()):
        policy, reference, trunk = family()
    own = dict(policy.model.named_parameters())
    for name, weight in reference.model.named_parameters():
        assert weight is not own[name]
        assert weight.data_ptr() == own[name].data_ptr()
        assert (weight.requires_grad, own[name].requires_grad) == (False, True)
    assert all(weight.data_ptr() == own[f"model.{name}"].data_ptr() for name, weight in trunk.named_parameters())
    policy, reference, trunk = family()
    places = {weight.data_ptr() for model in (policy.model, reference.model, trunk) for weight in model.parameters()}
    assert len(places) == 2 * len(own) + len(list(trunk.parameters())), "alone each has its own"


def test_emptied_keeps_shapes_and_ties() -> None:
    model = parts.policy("llama", tie_word_embeddings=True).model
    before, numbers = outline(model), {name: weight.clone() for name, weight in model.named_parameters()}
    whole = emptied(model)
    assert outline(model) == before
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(one.is_meta for one in (*model.parameters(), *model.buffers()))
    assert {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()} == whole.keys()
    assert all(torch.equal(whole[name], weight) for name, weight in numbers.items())
