"""A Hugging Face folder that several processes write together, each some of its layers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from scoreline.models.loading import INDEX
from scoreline.models.rows import part_files, part_name

STEM = "model"


def stored_tensors(model: Any) -> dict[str, Tensor]:
    """What a folder of this model holds, by its name in memory: tied weights once, under the name that leads."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    ignored = set(model._keys_to_ignore_on_save or ())
    named = {name: one for name, one in model.state_dict(keep_vars=True).items() if name not in ignored}
    names: dict[int, str] = {}
    for name in sorted(named, key=lambda name: name in tied):
        names.setdefault(id(named[name]), name)
    kept = set(names.values())
    return {name: tensor for name, tensor in named.items() if name in kept}


def writers(tensors: Mapping[str, Tensor], count: int) -> dict[str, int]:
    """Who writes what: whole layers, because a folder may join a layer's tensors, the largest first, to whoever has
    least.
    """
    layers: dict[str, list[str]] = {}
    for name in tensors:
        found = re.match(r".*?\.\d+\.", name)
        layers.setdefault(found[0] if found else name, []).append(name)
    sizes = {layer: sum(tensors[name].numel() for name in names) for layer, names in layers.items()}
    load, dealt = [0] * count, {}
    for layer in sorted(layers, key=lambda layer: -sizes[layer]):
        least = load.index(min(load))
        load[least] += sizes[layer]
        dealt.update(dict.fromkeys(layers[layer], least))
    return dealt


def write_part(model: Any, tensors: dict[str, Tensor], folder: Path, rank: int, world: int) -> None:
    """One process's layers, under the names and in the shapes that folders of this architecture have."""
    saved = {name: tensor.contiguous() for name, tensor in revert_weight_conversion(model, tensors).items()}
    save_file(saved, folder / part_name(STEM, rank, world), metadata={"format": "pt"})


def write_description(model: Any, folder: Path) -> None:
    """All that `save_pretrained` writes beside the weights: configuration, generation settings, code of its own.

    It comes first: it removes what looks like the weights of an earlier save.
    """
    model.save_pretrained(folder, state_dict={})
    for empty in folder.glob(f"{STEM}.safetensors"):
        empty.unlink()


def write_index(folder: Path) -> None:
    """Which tensor stands in which file, when all parts are written."""
    files, total = {}, 0
    for file in part_files(folder, STEM):
        with safe_open(file, framework="pt") as opened:
            files.update(dict.fromkeys(opened.keys(), file.name))
        total += file.stat().st_size
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
