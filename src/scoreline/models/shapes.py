"""A model's shapes without its numbers, and what can only be said of them by who read the files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping

from scoreline.models.making import as_shape, confirmed

OF_A_FILE = {"_name_or_path", "architectures", "dtype", "transformers_version"}
"""Of a configuration, what says where it came from and how it was saved, and not what the model computes."""


def shaped(
    auto: Any, source: str, config: PreTrainedConfig, *, trust_remote_code: bool, dtype: torch.dtype
) -> PreTrainedModel:
    """The model of this configuration on the meta device, ready for weights that others read."""
    with torch.device("meta"):
        model: Any = auto.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    with suppress(OSError):  # without a file of its own the settings are those of the configuration
        model.generation_config = GenerationConfig.from_pretrained(source)
    model._weight_conversions = get_model_conversion_mapping(model)
    agree_on_files(model)
    return model.eval()  # type: ignore[no-any-return]


def agree_on_files(model: Any) -> None:
    """Of the weights that a configuration ties, those that the files tie; of the names that files of this architecture
    may use, those that these use, so that all processes write the same folder.
    """
    tied = set(model.all_tied_weights_keys)
    for name in model.get_expanded_tied_weights_keys(all_submodels=True):
        if not confirmed(f"tied {name}", partial(tied.__contains__, name)) and name in tied:
            untie(model, name)
    used = {transform(each) for each in getattr(model, "_weight_conversions", None) or ()}
    known = [(transform(each), each) for each in get_model_conversion_mapping(model)]
    model._weight_conversions = [each for told, each in known if confirmed(told, partial(used.__contains__, told))]


def untie(model: Any, name: str) -> None:
    """A weight of its own: the files hold another one than that which the configuration ties it to."""
    owner, _, last = name.rpartition(".")
    module = model.get_submodule(owner)
    module._parameters[last] = as_shape(module._parameters[last])
    model.all_tied_weights_keys.pop(name)


def transform(conversion: Any) -> str:
    """What a conversion of names does, as text."""
    told = (conversion._original_source_patterns, conversion._original_target_patterns, conversion.scope_prefix)
    return f"{type(conversion).__name__} {told}"


def settings(models: Sequence[nn.Module]) -> dict[str, Any]:
    """What the configurations of some models say that they compute, by names such as `rope_parameters.rope_theta`;
    those of a critic begin with `critic: `. Models without a trunk of their own have none.
    """
    found: dict[str, Any] = {}
    for model in models:
        trunk: Any = getattr(model, "trunk", None)
        config = getattr(model if trunk is None else trunk, "config", None)
        if config is not None:
            told = json.loads(json.dumps(config.to_dict(), default=str))
            found |= {("" if trunk is None else "critic: ") + name: value for name, value in leaves(told)}
    return found


def leaves(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What stands in a table, and in the tables in it, by dotted names."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", one) for inner, one in leaves(value))
        elif name not in OF_A_FILE:
            yield name, value
