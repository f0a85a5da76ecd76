"""LoRA (Hu et al., 2106.09685):  h = W x + (alpha / r) B A x,  with W frozen, A [r, d_in] and B [d_out, r] learned.

B begins at zero, so that training begins at the model itself. Several models may stand on one W: the policy, its
reference and its critic each have an A and a B of their own, and share all other weights (`apart`).
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from scoreline.errors import ConfigError, ModelError, suggest
from scoreline.models.making import shared

M = TypeVar("M", bound=nn.Module)

ADAPTER = "default"
"""The name of the one adapter that a model has."""
SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ALL_LINEAR: Literal["all-linear"] = "all-linear"


@dataclass(frozen=True)
class Lora:
    """An adapter of rank r = `rank`, scaled by `alpha` / r, or by `alpha` / sqrt(r) with `rslora` (2312.03732).

    `targets` are names of linear layers, such as ["q_proj", "v_proj"]; "all-linear" is all of them but the output head.
    `dropout` must stay 0: it would make pi_old and pi differ without an update, and the ratio of the two is what the
    objective clips.
    """

    rank: int = 16
    alpha: int = 32
    targets: Literal["all-linear"] | tuple[str, ...] = ALL_LINEAR
    rslora: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.lora.{name} is too small.", got=getattr(self, name), accepted="1 or more")
        if not self.targets:
            raise ConfigError("model.lora.targets names no layer.", got="[]", accepted='"all-linear", or a list')
        if self.dropout:
            raise ConfigError(
                "An adapter that is trained by reinforcement has no dropout.",
                got=f"model.lora.dropout={self.dropout}",
                accepted="0: log pi and log pi_old of one answer must differ by what was learned, not by chance",
                todo="leave model.lora.dropout out; a lower rank or learning rate regularises too.",
            )


def attach(model: Any, lora: Lora, base: str = "") -> None:
    """Put a fresh adapter into the model, in place: A uniform from torch's generator, B = 0. All else stops learning.

    `base` is what the adapter's folder will call the model. Raises `ModelError` without the extra, and for targets
    that are no linear layers of the model or that are its head.
    """
    peft = library()
    layers = linear_layers(model)
    check_targets(model, lora, layers)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
    )
    peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)


def apart(module: M) -> M:
    """A copy with weights of its own where the module's learn; those that are frozen are the same tensors."""
    frozen = {id(p): p for p in module.parameters() if not p.requires_grad}
    return copy.deepcopy(module, frozen | shared(module))


def weights(module: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes, by name: A and B where the model has an adapter, else all of its weights."""
    named = dict(module.named_parameters())
    return {name: named[name] for name in named if ".lora_" in name} or named


def freeze(model: nn.Module) -> None:
    """No weight learns; where B = 0 the adapter is switched off, so that the layer computes W x and nothing else."""
    for layer in adapted_layers(model).values():
        layer.enable_adapters(bool(layer.lora_B[ADAPTER].weight.any()))
    model.requires_grad_(False)


def plain(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, Any]]:
    """All weights but A and B, under the names of the model without its adapter, each with the layer that adds its A
    and B to it, or None.
    """
    layers = adapted_layers(model)
    for name, parameter in model.named_parameters():
        owner, _, last = name.rpartition(".base_layer.")
        if owner in layers and last == "weight":
            yield f"{owner}.weight", parameter, layers[owner]
        elif ".lora_" not in name:
            yield name.replace(".base_layer.", "."), parameter, None


@torch.no_grad()
def merged_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """W + (alpha / r) B A under the names of the model without its adapter. The model stays as it is."""
    for name, parameter, layer in plain(model):
        yield name, parameter.detach() if layer is None else parameter + layer.get_delta_weight(ADAPTER)


def is_adapter(folder: str | Path) -> bool:
    """Whether this is a PEFT folder: adapters, to be laid on a model that it names."""
    return (Path(folder) / SETTINGS).is_file()


def save_adapter(model: Any, folder: Path) -> None:
    """A PEFT folder, which `peft.PeftModel.from_pretrained(base, folder)` loads."""
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.copy(model.peft_config[ADAPTER])
    config.target_modules, config.inference_mode = sorted(config.target_modules), True
    config.save_pretrained(str(folder))
    tensors = {stored(name): tensor.detach().contiguous() for name, tensor in weights(model).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def restore_adapter(model: Any, folder: str | Path) -> None:
    """Exactly the A and B of a PEFT folder. Raises `ModelError` if it is not of the model's own shape."""
    found, own = read_weights(folder), {stored(name): weight for name, weight in weights(model).items()}
    said, config = settings(folder), model.peft_config[ADAPTER]
    shapes = [{name: tuple(tensor.shape) for name, tensor in side.items()} for side in (found, own)]
    alpha, rslora = said.get("lora_alpha"), said.get("use_rslora", False)
    if shapes[0] != shapes[1] or (alpha, rslora) != (config.lora_alpha, config.use_rslora) or said.get("alpha_pattern"):
        raise ModelError(
            "The adapter in this folder is not the one that [model.lora] describes.",
            got=f"{folder}: rank {said.get('r')}, alpha {alpha}, rslora {rslora}, {len(found)} weights",
            accepted=f"rank {config.r}, alpha {config.lora_alpha}, rslora {config.use_rslora}, {len(own)} weights",
            todo="say in [model.lora] what the folder has, or set model.lora='none', which merges it into the model.",
        )
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(found[name])


def merge(model: Any, folder: str | Path) -> Any:
    """W + (alpha / r) B A, as an ordinary model of which all weights learn. Raises `ModelError` for a misfit."""
    read_weights(folder)  # they are safetensors, and whole
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # peft still asks by older names
            merged = library().PeftModel.from_pretrained(model, str(folder)).merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            f"The adapter cannot be merged into its base model: {error}",
            got=str(folder),
            accepted="a LoRA adapter of the model that its adapter_config.json names",
        ) from error
    return merged.requires_grad_(True)


def base_of(folder: str | Path) -> str:
    """The model that an adapter was made for, as its folder says."""
    named = settings(folder).get("base_model_name_or_path")
    if not named:
        raise ModelError(
            "The adapter does not say which model it belongs to.",
            got=f"{folder}/{SETTINGS} without base_model_name_or_path",
            todo="write the folder or id of its base model there.",
        )
    return str(named)


def settings(folder: str | Path) -> dict[str, Any]:
    """What stands in `adapter_config.json`."""
    file = Path(folder) / SETTINGS
    try:
        said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{SETTINGS} is not JSON.", got=f"{file}: {error}", todo="fetch it again") from error
    return said


def read_weights(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of a PEFT folder; only safetensors are read."""
    file = Path(folder) / WEIGHTS
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            "The adapter's weights cannot be read.",
            got=f"{file}: {error}",
            accepted=f"{WEIGHTS}; pickled files (.bin) are not read",
            todo="fetch the folder again, or save the adapter again with peft's save_pretrained",
        ) from error


def linear_layers(model: Any) -> dict[str, nn.Module]:
    """The layers that an adapter may stand on: all linear ones but the output head."""
    head = model.get_output_embeddings()
    named = model.named_modules()
    return {name: layer for name, layer in named if isinstance(layer, nn.Linear | Conv1D) and layer is not head}


def check_targets(model: Any, lora: Lora, layers: Iterable[str]) -> None:
    """Every target must be a layer, or an adapter would be smaller than it was said to be."""
    known = sorted({name.rsplit(".", 1)[-1] for name in layers})
    for target in () if isinstance(lora.targets, str) else lora.targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            raise ModelError(
                f"{type(model).__name__} has no linear layer of this name that could have an adapter.",
                got=f"model.lora.targets with {target!r}",
                accepted=f'"all-linear", or of {", ".join(known)}; the embedding and the output head stay as they are',
                todo=suggest(target, known),
            )


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """The layers with an A and a B, by name."""
    return {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}


def stored(name: str) -> str:
    """What a PEFT folder calls a weight: as inside the library's wrapper, without the adapter's name."""
    return "base_model.model." + name.replace(f".{ADAPTER}.", ".")


def library() -> ModuleType:
    """The package peft. Raises `ModelError` where it is not installed."""
    try:
        import peft
    except ImportError as error:
        raise ModelError(
            "Adapters need the package peft.", got=str(error), todo="pip install 'scoreline[peft]'"
        ) from error
    return peft
