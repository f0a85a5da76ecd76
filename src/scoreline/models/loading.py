"""Models and tokenizers from Hugging Face folders and ids: safetensors only, and no downloaded code unless told to.

What transformers would answer with a warning or with a traceback from deep inside is checked here and named.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from scoreline.errors import ModelError
from scoreline.models import tiny
from scoreline.models.adapters import Lora, attach, base_of, is_adapter, merge, restore_adapter
from scoreline.models.making import reads, together
from scoreline.models.shapes import agree_on_files, shaped

TINY, TINY_INIT = "tiny", "tiny:init"
"""The embedded model, and its architecture with fresh random weights."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
INDEX = "model.safetensors.index.json"
CONVERT = (
    "convert it once, where you trust the file: AutoModelForCausalLM.from_pretrained(FOLDER, use_safetensors=False)"
    ".save_pretrained(NEW_FOLDER)"
)
disable_progress_bar()  # bars for files that load in a second, in the middle of ours
FAILURES = (OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError, ImportError)
"""What transformers raises for files that do not fit together."""


def resolve(path: str) -> str:
    """The folder or id that transformers loads: `tiny` is the packaged folder, a folder stands for itself.

    Anything else is an id on the hub, unless it can only be a path: then the folder is missing.
    """
    if path == TINY:
        return str(tiny.path())
    local = Path(path).expanduser()
    if local.is_dir():
        return str(local)
    if local.exists() or local.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1:
        raise ModelError(
            "The model folder is missing.",
            got=path,
            accepted="a folder with config.json, a tokenizer and *.safetensors; 'tiny'; or an id such as 'owner/name'",
            todo="check the path; it is relative to the folder that the command runs in",
        )
    return path


def load_causal_lm(
    path: str, *, trust_remote_code: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0
) -> PreTrainedModel:
    """A causal language model with all of its weights, in evaluation mode. `seed` is that of `tiny:init`.

    Raises `ModelError` for what is missing, broken, pickled, not causal, or would run code of the folder's own.
    """
    if path == TINY_INIT:
        return tiny.build(seed)[0].to(dtype).eval()  # type: ignore[arg-type, no-any-return]
    source = resolve(path)
    if is_adapter(source):
        base = load_base(source, trust_remote_code=trust_remote_code, dtype=dtype)
        return merge(base, source).eval() if reads() else base
    config = load_config(source, trust_remote_code=trust_remote_code)
    check_causal(source, config)
    return load_weights(AutoModelForCausalLM, source, config, trust_remote_code=trust_remote_code, dtype=dtype)


def load_adapted(path: str, lora: Lora, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """A model under an adapter that learns: a fresh one, or, where `path` is a PEFT folder, the one that is there."""
    if path == TINY_INIT:
        raise ModelError(
            "An adapter is for a model that has learned something: random weights cannot be loaded again beneath it.",
            got=f"model.path={path!r} with [model.lora]",
            todo=f"choose another model.path, such as {TINY!r}, or leave [model.lora] out.",
        )
    source = resolve(path)
    if not is_adapter(source):
        model = load_causal_lm(path, trust_remote_code=trust_remote_code)
        attach(model, lora, lasting(path))
        return model
    model = load_base(source, trust_remote_code=trust_remote_code)
    attach(model, lora, base_of(source))
    restore_adapter(model, source)
    return model


def load_base(folder: str, *, trust_remote_code: bool = False, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model beneath the adapter of a PEFT folder."""
    base = base_of(folder)
    try:
        return load_causal_lm(base, trust_remote_code=trust_remote_code, dtype=dtype)
    except ModelError as error:
        raise ModelError(
            "The model that this adapter belongs to cannot be loaded.",
            got=f"{folder}: base_model_name_or_path = {base!r}. {error}",
            todo="write the folder or id of its base model into adapter_config.json.",
        ) from error


def lasting(path: str) -> str:
    """The path of a model as an adapter remembers it: a folder's in full, since commands may run elsewhere."""
    return str(Path(resolve(path)).resolve()) if path != TINY and Path(path).expanduser().is_dir() else path


def load_tokenizer(path: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or id. Raises `ModelError` when there is none."""
    if path == TINY_INIT:
        return tiny.character_tokenizer()
    source = resolve(path)
    bare = Path(source).is_dir() and not any((Path(source) / name).exists() for name in TOKENIZER_FILES)
    if bare and is_adapter(source):
        return load_tokenizer(base_of(source), trust_remote_code=trust_remote_code)
    if bare:
        raise ModelError(
            "The model folder has no tokenizer.",
            got=listing(source),
            accepted="one of " + ", ".join(TOKENIZER_FILES),
            todo="save it there with tokenizer.save_pretrained(FOLDER)",
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    except FAILURES as error:
        raise _failed("The tokenizer cannot be loaded", source, error) from error
    return tokenizer


def load_config(source: str, *, trust_remote_code: bool) -> PreTrainedConfig:
    """The configuration of a folder or id, after the checks that need nothing else."""
    if Path(source).is_dir():
        _check_config_file(Path(source), trust_remote_code)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except FAILURES as error:
        raise _failed("The model's configuration cannot be loaded", source, error) from error
    return config


def load_weights(
    auto: Any, source: str, config: PreTrainedConfig, *, trust_remote_code: bool, dtype: torch.dtype
) -> PreTrainedModel:
    """The model with the weights of the safetensors files, each parameter from a file or tied to one that is.

    Where another process reads them (`models/making.py`): the shapes of that model.
    """
    if not reads():
        return shaped(auto, source, config, trust_remote_code=trust_remote_code, dtype=dtype)
    if Path(source).is_dir():
        _check_weight_files(Path(source))
    try:
        model, loaded = auto.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except FAILURES as error:
        raise _failed("The model cannot be loaded", source, error) from error
    if loaded["missing_keys"]:
        raise ModelError(
            f"{len(loaded['missing_keys'])} parameters of the model have no weights in its files, and would be random.",
            got=f"{source}, without {_some(loaded['missing_keys'])}",
            accepted="weights for every parameter (an output head tied to the embedding needs none)",
            todo="fetch or save the model again; check that its files belong to its config.json",
        )
    if together():
        agree_on_files(model)
    return model.eval()  # type: ignore[no-any-return]


def check_causal(source: str, config: PreTrainedConfig) -> None:
    """Refuse encoders, encoder-decoders, classifiers. The configuration's own word (`architectures`) decides."""
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    named = config.architectures or []
    own_code = "AutoModelForCausalLM" in getattr(config, "auto_map", {})
    known = config.model_type in causal and (not named or not set(named).isdisjoint(causal.values()))
    if config.is_encoder_decoder or not (known or own_code):
        raise ModelError(
            "The model is not a causal language model.",
            got=f"{source}: {', '.join(named) or type(config).__name__} (model type {config.model_type!r})",
            accepted="a decoder that predicts the next token, such as LlamaForCausalLM or GPT2LMHeadModel",
            todo="choose another model; encoders, encoder-decoders and classifiers cannot be sampled from here",
        )


def listing(folder: str) -> str:
    """`FOLDER with config.json, README.md`: what an error shows of a folder."""
    names = sorted(file.name for file in Path(folder).iterdir())
    return f"{folder} with {_some(names) if names else 'nothing in it'}"


def _check_config_file(folder: Path, trust_remote_code: bool) -> None:
    file = folder / "config.json"
    if not file.exists():
        raise ModelError(
            "The model folder has no config.json.",
            got=listing(str(folder)),
            accepted="a folder that model.save_pretrained wrote",
            todo="point at the folder that holds config.json, not at one above or below it",
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(
            "The model's config.json is not JSON.", got=f"{file}: {error}", todo="fetch it again"
        ) from error
    if "auto_map" in found and found.get("model_type") not in CONFIG_MAPPING and not trust_remote_code:
        raise ModelError(
            "The model needs code of its own, which would run on this machine.",
            got=f"{folder}: auto_map names {_some(found['auto_map'].values())}",
            accepted="architectures that transformers has, or trust_remote_code = true for this run",
            todo="read the Python files of the model; set model.trust_remote_code = true only if you trust them",
        )


def _check_weight_files(folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise _no_weights(folder)
    index = folder / INDEX
    shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.exists() else set()
    if absent := shards - {file.name for file in files}:
        raise ModelError(
            "Weight files that the model's index names are missing.",
            got=f"{folder} without {_some(absent)}",
            todo="fetch the missing files",
        )
    for file in files:
        _check_readable(file)


def _check_readable(file: Path) -> None:
    try:
        with safe_open(file, framework="pt") as opened:
            opened.keys()
    except (SafetensorError, OSError) as error:
        raise ModelError(
            "A weight file is cut short or broken.",
            got=f"{file} ({file.stat().st_size} bytes): {error}",
            accepted="a complete safetensors file",
            todo="fetch or save it again",
        ) from error


def _no_weights(folder: Path) -> ModelError:
    pickled = [file.name for file in folder.iterdir() if file.suffix in PICKLED]
    if pickled:
        return ModelError(
            "The model's weights are pickled, and unpickling a file can run any code; they are not read.",
            got=f"{folder} with {_some(pickled)}",
            accepted="*.safetensors",
            todo=CONVERT,
        )
    return ModelError(
        "The model folder has no weights.",
        got=listing(str(folder)),
        accepted="model.safetensors, or shards with " + INDEX,
        todo="fetch or save the model again",
    )


def _failed(what: str, source: str, error: Exception) -> ModelError:
    if Path(source).is_dir():
        return ModelError(f"{what}: {error}", got=listing(source), todo="check that the files belong together")
    return ModelError(
        f"{what}: there is no folder of this name, and the hub did not give it.",
        got=f"{source}: {str(error).splitlines()[0]}",
        accepted="a folder, 'tiny', or an id that the hub has and this machine can reach",
        todo="check the name and the network; without a network fetch the model elsewhere and give its folder",
    )


def _some(names: Collection[str]) -> str:
    """`a, b, c and 4 more`."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(ordered[:5]) + more
