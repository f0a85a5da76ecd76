"""Which head a model has, and new heads on the trunk of a causal language model."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
)

from scoreline.errors import ModelError
from scoreline.models.adapters import is_adapter
from scoreline.models.loading import TINY_INIT, load_causal_lm, load_config, load_tokenizer, load_weights, resolve
from scoreline.models.text import Text

Kind = Literal["outcome", "process"]

AUTO: dict[Kind, Any] = {"outcome": AutoModelForSequenceClassification, "process": AutoModelForTokenClassification}
LABELS: dict[Kind, tuple[str, ...]] = {"outcome": ("score",), "process": ("wrong", "right")}
SPEAKS = {
    "outcome": "a ...ForSequenceClassification with num_labels = 1, which scores answers",
    "process": "a ...ForTokenClassification with num_labels = 1 or 2, which scores steps",
}

SPREAD = 0.1
"""Standard deviation of the first scores, about: a new head knows nothing, and says little."""


def head_of(path: str, *, trust_remote_code: bool = False) -> Kind | Literal["causal"]:
    """What a folder or id is. Raises `ModelError` for a classifier that is no judge."""
    source = path if path == TINY_INIT else resolve(path)
    if source == TINY_INIT or is_adapter(source):
        return "causal"
    config = load_config(source, trust_remote_code=trust_remote_code)
    return _kind(source, config) if "Classification" in _named(config) else "causal"


def load_classifier(
    path: str, *, trust_remote_code: bool = False, chat_template: str | None = None
) -> tuple[Kind, Any, Text]:
    """A judge's model with all of its weights, in evaluation mode."""
    source = resolve(path)
    config = load_config(source, trust_remote_code=trust_remote_code)
    kind = _kind(source, config)
    model = load_weights(AUTO[kind], source, config, trust_remote_code=trust_remote_code, dtype=torch.float32)
    return kind, _without_cache(model), _text(source, trust_remote_code, chat_template)


def fresh_classifier(
    kind: Kind, path: str, *, seed: int, trust_remote_code: bool, chat_template: str | None
) -> tuple[Any, Text]:
    """The causal model's trunk under a new head: weights N(0, SPREAD^2 / width), biases 0."""
    causal: Any = load_causal_lm(path, trust_remote_code=trust_remote_code, seed=seed)
    text = _text(path, trust_remote_code, chat_template)
    text.tokenizer.padding_side = "right"
    config = _configured(kind, causal.config, text)
    with torch.random.fork_rng(devices=[]):
        try:
            model = AUTO[kind].from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
        except ValueError as error:
            raise ModelError(
                f"Models of this architecture cannot become {_noun(kind)}: transformers has no such class for them.",
                got=f"{path}: {type(causal).__name__}",
                todo="choose another model",
            ) from error
    model.base_model.load_state_dict(causal.base_model.state_dict())
    _begin_head(model, torch.Generator().manual_seed(seed))
    return _without_cache(model.eval()), text


def wrong_head(wanted: Kind, found: Kind, path: str) -> ModelError:
    """A judge of the other kind."""
    return ModelError(
        "The judge's head does not fit.",
        got=f"{path}: {SPEAKS[found]}",
        accepted=f"{SPEAKS[wanted]}, or a causal language model, which gets a new head",
        todo=f"set kind = {found!r}, or choose another model.path",
    )


def _kind(source: str, config: PreTrainedConfig) -> Kind:
    named = _named(config)
    if "ForSequenceClassification" in named and config.num_labels == 1:
        return "outcome"
    if "ForTokenClassification" in named and config.num_labels in (1, 2):
        return "process"
    outputs = f" with {config.num_labels} labels" if "Classification" in named else ", without a classification head"
    raise ModelError(
        "The model is not a judge: its head does not fit.",
        got=f"{source}: {named}{outputs}",
        accepted=f"{SPEAKS['outcome']}; or {SPEAKS['process']}",
        todo="choose a reward model, or make one of a causal language model with `scoreline reward-model`",
    )


def _named(config: PreTrainedConfig) -> str:
    return ", ".join(config.architectures or ["no architecture"])


def _noun(kind: Kind) -> str:
    return "reward models" if kind == "outcome" else "process reward models"


def _text(path: str, trust_remote_code: bool, chat_template: str | None) -> Text:
    tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
    with warnings.catch_warnings(action="ignore"):  # a missing eos matters only to what is sampled
        return Text(tokenizer, chat_template=chat_template)


def _configured(kind: Kind, causal: PreTrainedConfig, text: Text) -> PreTrainedConfig:
    config = copy.deepcopy(causal)
    config.id2label = dict(enumerate(LABELS[kind]))
    config.label2id = {label: i for i, label in enumerate(LABELS[kind])}
    config.problem_type = "regression" if kind == "outcome" else None
    config.architectures = None  # the class that is saved says its own name
    for part in (config, config.get_text_config()):
        part.pad_token_id = text.tokenizer.pad_token_id  # where others, who pad by the tokenizer, must not pool
    return config


def _begin_head(model: Any, generator: torch.Generator) -> None:
    width = model.config.get_text_config().hidden_size
    trunk = f"{model.base_model_prefix}."
    for name, parameter in model.named_parameters():
        if not name.startswith(trunk):
            nn.init.normal_(parameter, std=SPREAD / width**0.5 if parameter.dim() > 1 else 0.0, generator=generator)


def _without_cache(model: Any) -> Any:
    model.config.get_text_config().use_cache = False  # nothing is decoded from a classifier
    return model
