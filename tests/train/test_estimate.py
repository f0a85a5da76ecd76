"""The estimate of a step: worked by hand, and what halving does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scoreline.models.footprint import Footprint
from scoreline.train.estimate import Estimate, Held, Largest, Rates
from scoreline.train.portions import Portion

MODEL = Footprint(parameters=1000, layers=3, width=8, inner=16, keys=4, vocabulary=50)
STEP = Largest(prompts=4, answers=8, prompt=10, answer=20, in_flight=16, portion=Portion(8), minibatches=2)
RATES = Rates(prefill=1.0, fixed=0.1, each=0.01, context=20, annotate=0.001, learn=0.004, optimiser=0.5)


def test_the_sizes_of_a_step() -> None:
    assert (STEP.rows, STEP.flying, STEP.tokens) == (32, 16, 4 * 10 + 32 * 20)
    assert (STEP.at_once, STEP.tokens_at_once) == (8, 10 + 8 * 20)
    assert replace(STEP, packed=False).tokens == 32 * 30
    by_tokens = replace(STEP, portion=Portion(100, "tokens"))
    assert (by_tokens.at_once, by_tokens.tokens_at_once) == (4, 10 + 4 * 20)
    assert replace(STEP, portion=Portion(999)).at_once == 16, "a minibatch is the most there is at once"


def with_slack(memory: dict[str, int]) -> dict[str, int]:
    return memory | {"allocator": sum(memory.values()) // 8}


def test_memory_by_hand() -> None:
    held = Held(7, MODEL, reference=MODEL, critic=replace(MODEL, vocabulary=0))
    learning = {"activations": 2 * MODEL.activations(170), "logits": 12 * 160 * 50}
    always = {"program": 7, "weights": 4000, "reference": 4000, "critic": 4000, "optimiser": 16000}
    always["gradients"] = 8000
    assert held.peak(STEP) == with_slack(always | learning)
    many = replace(STEP, in_flight=32, portion=Portion(1), answer=900)
    sampling = {"keys and values": MODEL.cache(32, 910), "drawing tokens": 16 * 32 * 50}
    alone = {"program": 7, "weights": 4000, "optimiser": 8000, "gradients": 4000}
    assert Held(7, MODEL).peak(many) == with_slack(alone | sampling)
    assert Held(7, MODEL, exact=True).peak(STEP)["fp64 sums"] == 8 * MODEL.parameters
    half = replace(MODEL, precision="bf16")
    assert Held(7, half).peak(replace(many, answer=9000))["working copy"] == 2000


def test_memory_of_a_clusters_processes_by_hand() -> None:
    held = Held(7, MODEL, reference=MODEL)
    learning = MODEL.activations(170) + 12 * 160 * 50
    half = 7 + (4000 + 4000 + 8000 + 4000) // 2 + learning
    assert held.learner(STEP, 2) == half + half // 8
    eleven = 7 + 4000 + MODEL.cache(11, 30) + 16 * 11 * 50
    assert held.worker(STEP, 3) == eleven + eleven // 8, "32 answers, at most 11 for one of three"
    assert held.first(STEP, 2) == held.learner(STEP, 2), "training needs more than reading"
    heavy = Held(7, replace(MODEL, parameters=1 << 30), reference=replace(MODEL, parameters=1 << 30))
    reading = 7 + (4 << 30) + (8 << 30) // 64
    assert heavy.first(STEP, 64) == reading + reading // 8 > heavy.learner(STEP, 64), (
        "one whole policy, and rows of two"
    )
    exact = half + 2 * 4000
    assert replace(held, exact=True).learner(STEP, 2) == exact + exact // 8, "sums in fp64 are whole on every rank"
    adapted = Held(7, replace(MODEL, learned=100))
    assert adapted.first(STEP, 64) == adapted.learner(STEP, 64)
    assert adapted.learner(STEP, 2) == adapted.learner(STEP, 1), "frozen weights stay whole"


def test_time_by_hand() -> None:
    longer = MODEL.operations(1, 20) / MODEL.operations(1, 20)
    expected = {
        "sampling": 2 * (1.0 + 19 * (0.1 + 0.16) * longer),
        "annotating": 680 * 0.001,
        "learning": 680 * 0.004 + 2 * 0.5,
    }
    assert RATES.seconds(STEP, MODEL) == pytest.approx(expected)
    assert RATES.seconds(replace(STEP, iterations=3), MODEL)["learning"] == pytest.approx(680 * 0.012 + 3.0)


def test_the_settings_that_matter_are_those_whose_half_saves_most() -> None:
    estimate = Estimate(STEP, Held(7, MODEL, reference=MODEL), room=1 << 30, rates=RATES)
    assert estimate.fits
    assert not replace(estimate, room=1000).fits
    for saved, whole in ((estimate.saved_bytes(), estimate.bytes), (estimate.saved_seconds(), 20.0)):
        assert len(saved) == 3
        assert [much for _, much in saved] == sorted((much for _, much in saved), reverse=True)
        assert all(0 < much < whole for _, much in saved)
    others = {name: estimate.held.peak(half) for name, half in STEP.halved().items()}
    others |= {name: held.peak(STEP) for name, held in estimate.held.changed().items()}
    saved_by_all = sorted((estimate.bytes - sum(peak.values()) for peak in others.values()), reverse=True)
    assert [much for _, much in estimate.saved_bytes()] == saved_by_all[:3]
    assert others['objective.kl = "none"'] == Held(7, MODEL).peak(STEP)
    assert set(dict(estimate.saved_seconds())) <= set(STEP.halved())


def test_a_setting_of_one_cannot_be_halved() -> None:
    assert "train.num_iterations" not in STEP.halved()
    assert "train.minibatches" in STEP.halved()
    assert "train.micro_batch_size" not in replace(STEP, portion=Portion(1)).halved()
