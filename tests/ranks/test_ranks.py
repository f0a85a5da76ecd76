"""One rank and several optimise the same objective, and take one another's checkpoints: real processes under gloo."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from scoreline.backends.fsdp import join
from scoreline.errors import CheckpointError, EngineError
from scoreline.train.ranks import ALONE
from tests import parts
from tests.ranks.gangs import gang
from tests.ranks.learning import MORE, SAVED, SCENES, adapted, kept, learner, poisoned, resumed, saved, trained

pytestmark = pytest.mark.timeout(900)
EXACT = {"loss": 1e-5, "grad_norm": 1e-5}
ROUNDED = {"loss": 5e-4, "grad_norm": 1e-2}
"""bf16: as far as two cuts into micro-batches differ on one rank."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    parts.policy("llama").save(folder / "base")
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> dict[int, dict[str, Any]]:
    """What one, two and three ranks say of the same scenes."""
    alone: dict[str, Any] = {name: trained(name, ALONE, place) for name in SCENES}
    for name in SAVED:
        alone[f"{name} saved"] = saved(name, ALONE, place)
        alone[f"{name} of 1"] = resumed(name, ALONE, place, 1)
    alone["poisoned"], alone["adapted"] = poisoned(ALONE), adapted(ALONE, place)
    alone["adapted exact"] = adapted(ALONE, place, "adapted exact", micro=2, sums="fp64")
    two = gang("everything", 2, place)[0]
    three = gang("more", 3, place)[0]
    for name in SAVED:
        alone[f"{name} of 2"] = resumed(name, ALONE, place, 2)
    return {1: alone, 2: two, 3: three}


def agree(one: list[dict[str, float]], other: list[dict[str, float]], bounds: dict[str, float]) -> None:
    """Every update has the same loss and gradient; all else that is said of it is the same to four digits."""
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine.keys() - {"time/update", "micro_batch_size"}:
            bound = bounds.get(name.split("/")[0], 1e-4)
            assert mine[name] == pytest.approx(theirs[name], rel=bound, abs=bound / 10), name


@pytest.mark.parametrize(("world", "name"), [(2, name) for name in SCENES] + [(3, name) for name in MORE])
def test_ranks_optimise_what_one_does(found: dict[int, dict[str, Any]], place: Path, world: int, name: str) -> None:
    exact = name != "bf16"
    agree(found[world][name], found[1][name], EXACT if exact else ROUNDED)
    ends = [kept(place / f"{name}-{number}.safetensors") for number in (1, world)]
    assert ends[0].keys() == ends[1].keys()
    for key, tensor in ends[0].items():
        assert torch.allclose(tensor, ends[1][key], atol=2e-5 if exact else 1e-4), key


@pytest.mark.parametrize(
    ("world", "name"),
    [(world, name) for world in (2, 3) for name in ("exact", "exact, shared")]
    + [(2, "exact, bf16"), (2, "adapted exact")],
)
def test_exact_sums_are_bit_by_bit_those_of_one_rank(
    found: dict[int, dict[str, Any]], place: Path, world: int, name: str
) -> None:
    ends = [kept(place / f"{name}-{number}.safetensors") for number in (1, world)]
    assert [key for key, tensor in ends[0].items() if not torch.equal(tensor, ends[1][key])] == []
    for mine, one in zip(found[world][name], found[1][name], strict=True):
        assert mine["loss"] == pytest.approx(one["loss"], rel=1e-9, abs=1e-12)
        assert mine["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-12)


def test_most_rows_at_once_are_those_of_any_rank(found: dict[int, dict[str, Any]]) -> None:
    sizes = [found[world]["ppo"][0]["micro_batch_size"] for world in (1, 2, 3)]
    assert sizes == [12.0, 6.0, 4.0]


def test_adapters_stay_whole_and_learn_the_same(found: dict[int, dict[str, Any]], place: Path) -> None:
    agree(found[2]["adapted"], found[1]["adapted"], EXACT)
    ends = [kept(place / f"adapted-{world}.safetensors") for world in (1, 2)]
    for key, tensor in ends[0].items():
        assert torch.allclose(tensor, ends[1][key], atol=2e-4), key
    names = {file.name for file in (place / "adapted of 2").iterdir()}
    assert names == {"hf", "optimizer.safetensors", "critic.safetensors", "portion.json"}


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize(("of", "world"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_checkpoint_goes_on_at_any_number_of_ranks(
    found: dict[int, dict[str, Any]], place: Path, name: str, of: int, world: int
) -> None:
    """The weights come back bit by bit; by as many ranks as wrote them, so do the updates that follow."""
    came_back = kept(place / f"{name} of {of}, as {world}.safetensors")
    first = kept(place / f"{name} of {of}, as {of}.safetensors")
    assert all(torch.equal(tensor, came_back[key]) for key, tensor in first.items())
    agree(found[world][f"{name} of {of}"], found[of][f"{name} saved"], EXACT)
    ends = [kept(place / f"{name} of {of}, {how}.safetensors") for how in (f"resumed by {world}", "went on")]
    for key, tensor in ends[0].items():
        same = torch.equal if of == world else lambda a, b: torch.allclose(a, b, atol=2e-5)
        assert same(tensor, ends[1][key]), key


def test_three_ranks_take_a_checkpoint_of_two(found: dict[int, dict[str, Any]], place: Path) -> None:
    first, came_back = (kept(place / f"ppo of 2, as {world}.safetensors") for world in (2, 3))
    assert all(torch.equal(tensor, came_back[key]) for key, tensor in first.items())
    agree(found[3]["ppo of 2"], found[2]["ppo saved"], EXACT)


@pytest.mark.usefixtures("found")
def test_one_rank_keeps_the_names_of_its_files_and_two_number_them(place: Path) -> None:
    def names(folder: str) -> set[str]:
        return {file.name for file in (place / folder).iterdir()}

    one = {"critic.safetensors", "optimizer.safetensors"}
    two = {f"{table}-0000{i}-of-00002.safetensors" for table in ("critic", "optimizer") for i in (1, 2)}
    assert names("ppo of 1") == one | {"hf", "portion.json"}
    assert names("ppo of 2") == two | {"hf", "portion.json"}
    assert "reference-00002-of-00002.safetensors" in names("grpo of 2"), "it has followed the policy"
    assert names("ppo of 1/hf") - {"model.safetensors"} == names("ppo of 2/hf") - {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    }


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("name", SAVED)
def test_the_folder_of_two_ranks_is_an_ordinary_one(place: Path, name: str) -> None:
    folder = place / f"{name} of 2" / "hf"
    model = AutoModelForCausalLM.from_pretrained(folder)
    for key, tensor in kept(place / f"{name} of 2, as 2.safetensors").items():
        if key.startswith("policy."):
            assert torch.equal(model.get_parameter(key.removeprefix("policy.")), tensor), key
    listed = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(listed.values()) == {f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    assert ("lm_head.weight" in listed) == (name == "mixture"), "a tied head is stored once"


@pytest.mark.parametrize("world", [1, 2])
def test_no_rank_steps_when_one_is_not_finite(found: dict[int, dict[str, Any]], world: int) -> None:
    first, second, moved, went_on = found[world]["poisoned"]
    assert (first, second) == (1.0, 0.0)
    assert not moved
    assert went_on


def test_ranks_with_other_weights_under_adapters_are_refused(found: dict[int, dict[str, Any]]) -> None:
    assert "did not load the same weights" in found[2]["strangers"]


def test_8_bit_moments_are_refused(found: dict[int, dict[str, Any]]) -> None:
    assert "train.optimizer='adamw_8bit' with 2 learners" in found[2]["8 bits"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_gang_on_loopback_listens_nowhere_else(found: dict[int, dict[str, Any]]) -> None:
    assert set(found[2]["listening"]) == {"0100007F"}


def test_memory_that_runs_out_is_said_and_a_rank_that_dies_ends_the_others(place: Path, found: dict[int, Any]) -> None:
    del found
    said = [json.loads((place / f"more-3-{rank}.json").read_text())["death"] for rank in range(3)]
    assert "Memory ran out on learner rank 1 of 3" in said[1]
    assert "train.micro_batch_size" in said[1]
    assert all("peer" in said[survivor] or "closed" in said[survivor] for survivor in (0, 2)), said


def test_an_address_that_does_not_answer_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(EngineError, match=r"Rank 1 of 2 did not find the other learners[\s\S]*SOCKET_IFNAME"):
        join(1, 2, f"127.0.0.1:{port}", torch.device("cpu"), timeout=1.0)


@pytest.fixture
def copied(found: dict[int, dict[str, Any]], place: Path, tmp_path: Path) -> Path:
    """A checkpoint of two ranks, to be spoiled."""
    del found
    return Path(shutil.copytree(place / "ppo of 2", tmp_path / "ppo of 2"))


def test_a_planted_pickle_is_never_read(copied: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(trap),))

    names = ("critic", "optimizer", "hf/model")
    for file in (copied / f"{name}-00002-of-00002.safetensors" for name in names):
        before = file.read_bytes()
        file.write_bytes(pickle.dumps(Trap()))
        with pytest.raises(Exception):  # noqa: B017, PT011 - whichever reader meets it first refuses
            learner(SCENES["ppo"], ALONE).restore(copied)
        file.write_bytes(before)
    learner(SCENES["ppo"], ALONE).restore(copied)
    assert not trap.exists()


def test_a_missing_part_is_named(copied: Path) -> None:
    (copied / "critic-00001-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"hold critic together are missing[\s\S]*critic-00002-of-00002"):
        learner(SCENES["ppo"], ALONE).restore(copied)


def test_a_checkpoint_of_another_model_is_refused(copied: Path) -> None:
    with pytest.raises(CheckpointError, match=r"optimizer in this[\s\S]*another model[\s\S]*weights"):
        learner(SCENES["actor_critic"], ALONE).restore(copied)
