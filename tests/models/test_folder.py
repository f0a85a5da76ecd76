"""A folder written in parts is the folder that the library would have written; rows are read across files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from scoreline.errors import CheckpointError
from scoreline.models.folder import stored_tensors, write_description, write_index, write_part, writers
from scoreline.models.rows import Parts, part_files, part_name
from tests import parts


@pytest.mark.parametrize(
    ("architecture", "changed"), [("llama", {}), ("llama", {"tie_word_embeddings": True}), ("gpt2", {}), ("gemma", {})]
)
@pytest.mark.parametrize("world", [2, 5])
def test_parts_together_are_the_folder_of_one(
    tmp_path: Path, architecture: str, changed: dict[str, Any], world: int
) -> None:
    policy = parts.policy(architecture, **changed)
    policy.save(tmp_path / "one")
    folder, model = tmp_path / "parts", policy.model
    tensors = stored_tensors(model)
    dealt = writers(tensors, world)
    write_description(model, folder)
    assert not list(folder.glob("*.safetensors"))
    for rank in range(world):
        write_part(model, {n: t.detach() for n, t in tensors.items() if dealt[n] == rank}, folder, rank, world)
    write_index(folder)
    one, together = Parts(tmp_path / "one", "model"), Parts(folder, "model")
    assert set(one) == set(together)
    assert all(torch.equal(one.read(name), together.read(name)) for name in one)
    again = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(again.get_parameter(name), weight) for name, weight in model.named_parameters())
    assert (folder / "config.json").read_text() == (tmp_path / "one" / "config.json").read_text()


def test_a_layer_has_one_writer_and_the_load_is_even() -> None:
    tensors = {f"layers.{i}.{name}": torch.zeros(size) for i in range(4) for name, size in (("a", 6), ("b", 2))}
    tensors |= {"embed": torch.zeros(9), "norm": torch.zeros(1)}
    dealt = writers(tensors, 2)
    assert all(dealt[f"layers.{i}.a"] == dealt[f"layers.{i}.b"] for i in range(4))
    load = [sum(tensors[name].numel() for name in tensors if dealt[name] == rank) for rank in (0, 1)]
    assert sorted(load) == [18, 24]


ROWS = torch.arange(14.0).view(7, 2)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Seven rows in three files, the last of which has none of them; a number that one rank wrote."""
    for rank, rows in enumerate((slice(0, 4), slice(4, 7))):
        more = {"step": torch.tensor(5.0)} if rank == 0 else {}
        save_file({"w": ROWS[rows].contiguous(), **more}, tmp_path / part_name("table", rank, 3))
    save_file({}, tmp_path / part_name("table", 2, 3))
    return tmp_path


@pytest.mark.parametrize("start", range(8))
def test_rows_are_read_across_files(three: Path, start: int) -> None:
    table = Parts(three, "table")
    assert set(table) == {"w", "step"}
    assert (table.shape("w"), table.shape("step")) == ((7, 2), ())
    assert torch.equal(table.read("w"), ROWS)
    assert float(table.read("step")) == 5.0
    for stop in range(start, 8):
        assert torch.equal(table.read("w", slice(start, stop)), ROWS[start:stop])


def test_a_table_without_all_of_its_files_is_refused(three: Path) -> None:
    (three / part_name("table", 1, 3)).unlink()
    with pytest.raises(CheckpointError, match=r"hold table together are missing[\s\S]*table-00001-of-00003"):
        part_files(three, "table")


def test_a_table_or_a_name_that_is_not_there_is_named(three: Path) -> None:
    with pytest.raises(CheckpointError, match="has no critic"):
        list(Parts(three, "critic"))
    with pytest.raises(CheckpointError, match="v is not in the checkpoint's table"):
        Parts(three, "table").read("v")
