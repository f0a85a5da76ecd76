"""What a model needs: formulas worked by hand, sizes without loading, and a refusal before loading."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scoreline.errors import MemoryLimitError
from scoreline.models import adapters, tiny
from scoreline.models.footprint import Footprint, footprint, refuse_too_large, sketch
from scoreline.models.policy import Model, recompute_activations
from scoreline.train.estimate import Held, Largest
from scoreline.train.portions import Portion
from tests import parts

HAND = Footprint(parameters=1000, layers=3, width=8, inner=16, keys=4, vocabulary=50)
HALF = replace(HAND, precision="bf16")


def test_formulas_by_hand() -> None:
    assert HAND.weights == 4000
    assert (HAND.working_copy, HALF.working_copy) == (0, 2000)
    assert HAND.activations(10) == 10 * 3 * (32 * 8 + 4 * (8 * 8 + 4 * 16))
    assert HALF.activations(10) == 10 * 3 * (8 * 8 + 2 * (4 * 8 + 3 * 16))
    assert replace(HAND, recomputed=True).activations(10) == 10 * (4 * 3 * 8 + 32 * 8 + 4 * (8 * 8 + 4 * 16))
    assert HAND.logits(10) == 3 * 4 * 10 * 50
    assert replace(HAND, vocabulary=1 << 21).logits(10) == 3 * 4 * (1 << 23), "a chunk, however many tokens"
    assert replace(HAND, vocabulary=1 << 27).logits(10) == 3 * 4 * (1 << 27), "one token at least"
    assert HAND.drawing(5) == 4 * 4 * 5 * 50
    assert (HAND.cache(5, 20), HALF.cache(5, 20)) == (2 * 4 * 3 * 4 * 5 * 20, 2 * 2 * 3 * 4 * 5 * 20)
    assert HAND.operations(10, 7) == 2 * 1000 * 10 + 4 * 3 * 8 * 10 * 7


def test_an_adapter_alone_has_gradients_and_moments() -> None:
    actor = parts.policy("llama")
    whole = footprint(actor.model)
    adapters.attach(actor.model, adapters.Lora(rank=2, alpha=4))
    found = footprint(actor.model)
    assert (whole.learned, whole.gradients) == (None, whole.weights)
    assert found.learned == found.parameters - whole.parameters
    held, step = (Held(0, size, moment=8) for size in (whole, found)), Largest(2, 2, 5, 5, 4, Portion(4))
    (all_learn, adapted) = (h.peak(step) for h in held)
    assert adapted["optimiser"] == 8 * found.learned < all_learn["optimiser"] == 8 * whole.parameters
    assert Held(0, whole, moment=2).always()["optimiser"] == 2 * whole.parameters


@pytest.mark.parametrize("architecture", parts.ARCHITECTURES)
def test_sizes_of_every_architecture(architecture: str, tmp_path: Path) -> None:
    actor = parts.policy(architecture)
    found = footprint(actor.model)
    assert found.parameters == sum(p.numel() for p in actor.model.parameters())
    assert (found.layers, found.width, found.vocabulary) == (2, 32, 24)
    assert found.keys == (32 if architecture == "gpt2" else 16)
    assert found.inner == (128 if architecture == "gpt2" else 64)
    actor.save(tmp_path)
    assert sketch(Model(path=str(tmp_path))) == found, "config.json says as much as the weights"


def test_what_recomputes_is_seen() -> None:
    actor = parts.policy()
    before = footprint(actor.model)
    recompute_activations(actor.model)
    after = footprint(actor.model)
    assert (before.recomputed, after.recomputed) == (False, True)
    assert after.activations(1) < before.activations(1)
    checkpointed = sketch(Model(gradient_checkpointing=True))
    assert checkpointed is not None
    assert checkpointed.recomputed


def test_a_vocabulary_that_cannot_fit_is_refused_before_loading(tmp_path: Path) -> None:
    """The folder has no weights at all: nothing asked for them."""
    config = json.loads((tiny.path() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 4_000_000_000}))
    with pytest.raises(
        MemoryLimitError, match=r"cannot fit[\s\S]*embedding of 4,000,000,000 words[\s\S]*smaller model"
    ):
        refuse_too_large(Model(path=str(tmp_path), device="cpu"), copies=4)
    refuse_too_large(Model(path="tiny", device="cpu"), copies=5)
