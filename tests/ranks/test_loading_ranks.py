"""Rank 0 reads weights and deals them out: each rank has what one process reads, and no other opens a file of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from scoreline.train.ranks import ALONE
from tests.ranks.gangs import gang
from tests.ranks.learning import kept
from tests.ranks.loading import FAILING, OTHERWISE, SAVED, SCENES, loaded, write_folders

pytestmark = pytest.mark.timeout(900)
LARGE = 100_000_000
"""Bytes of the large model, at least."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loading")
    write_folders(folder)
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> dict[int, list[dict[str, Any]]]:
    """What each rank of one, two and three says."""
    alone = {name: loaded(name, ALONE, place) for name in SCENES}
    return {1: [alone], 2: gang("loads", 2, place), 3: gang("loads_again", 3, place)}


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_have_the_weights_that_one_process_reads(place: Path, world: int, name: str) -> None:
    one, several = (kept(place / f"{name}-{number}.safetensors") for number in (1, world))
    assert one.keys() == several.keys()
    for key, tensor in one.items():
        assert torch.equal(tensor, several[key]), key


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("world", [2, 3])
def test_all_else_of_the_models_is_the_same_on_every_rank(found: dict[int, Any], world: int, name: str) -> None:
    """Buffers, what is tied, what was found by computing with the weights, and the layers that stand in for others."""
    one = found[1][0][name]
    for other in (said[name] for said in found[world]):
        for fact in ("buffers", "tied", "packs", "layers", "eos"):
            assert other[fact] == one[fact], fact
    assert sum(said[name]["rows"] for said in found[world]) == one["rows"]


def test_what_these_scenes_are_about(found: dict[int, Any]) -> None:
    """Some models are tied, one is not although its configuration says so, one is not packed, one has stand-ins."""
    alone = found[1][0]
    tied = {name: alone[name]["tied"] for name in SCENES}
    assert tied["tied, with a reference"] == tied["fresh"] == 1
    assert tied["untied, with a critic"] == tied["tied by the configuration alone"] == 0
    assert alone["padded"]["packs"][0] is False
    assert alone["tied, with a reference"]["packs"][0] is True
    assert "LeanEmbedding" in alone["bf16"]["layers"]
    assert {key for key, _ in alone["padded"]["buffers"]} & {"model.rotary_emb.inv_freq"}


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_that_read_nothing_write_their_part_of_an_ordinary_folder(place: Path, name: str, world: int) -> None:
    """Under the names of the files that rank 0 read: experts one by one, and a head beside the embedding."""
    first, again = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (place / SCENES[name].model, place / f"{name} of {world}" / "hf")
    )
    assert first.keys() == again.keys()
    for key, tensor in first.items():
        assert torch.equal(tensor, again[key]), key


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_only_rank_0_ever_has_a_whole_model(found: dict[int, Any]) -> None:
    """The other rank grows by its half, in which a table of words is the largest tensor."""
    first, second = (said["growth"] for said in found[2])
    assert first > LARGE
    assert second < 0.7 * LARGE


def test_where_rank_0_fails_every_rank_says_why(found: dict[int, Any]) -> None:
    (kind, text), other = (said["nothing to read"] for said in found[2])
    assert kind == "ModelError"
    assert "no weights" in text
    assert other == [kind, text]


@pytest.mark.parametrize("failing", list(FAILING)[1:])
def test_where_another_rank_fails_every_rank_says_why(found: dict[int, Any], failing: str) -> None:
    said = [one[failing] for one in found[2]]
    assert said[0][0] == said[1][0] == "ModelError", said
    expected = "model folder is missing" if failing == "nothing on rank 1" else "different models"
    for _, text in said:
        assert expected in text, text


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rope_parameters.rope_theta", "500.0 on rank 1, 10000.0 on rank 0"),
        ("rms_norm_eps", "0.01 on rank 1, 1e-06 on rank 0"),
        ("critic: hidden_act", "'gelu' on rank 1, 'silu' on rank 0"),
    ],
)
def test_a_configuration_that_computes_something_else_is_refused(found: dict[int, Any], name: str, values: str) -> None:
    """All shapes are the same: of a policy, of one under an adapter that every rank reads, of a critic of its own."""
    said = [one[f"otherwise {name}"] for one in found[2]]
    assert name in OTHERWISE
    assert said[0] == said[1]
    assert said[0][0] == "ModelError"
    assert f"got:      {name} = {values}" in said[0][1]


def test_an_error_that_nobody_foresaw_ends_the_other_ranks_too(found: dict[int, Any]) -> None:
    first, second = (said["by chance"] for said in found[2])
    assert first == "Another learner failed: ZeroDivisionError: by chance"
    assert second == "by chance"


def test_weights_are_those_of_rank_0_whatever_the_others_had(found: dict[int, Any]) -> None:
    for got, zero, one in (said["strangers"] for said in found[2]):
        assert got == zero != one
