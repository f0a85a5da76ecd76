"""A tokenizer as the rest of Scoreline sees it: prompts to ids, ids to text, and which ids end an answer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import GenerationConfig, PreTrainedTokenizerBase

from scoreline.errors import DataError, ModelError
from scoreline.types import Message, Prompt

TURN_END = "<|im_end|>"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}END\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The template behind `chat_template = "chatml"`; END is `<|im_end|>` where the vocabulary has it, else the eos token."""


@dataclass(frozen=True)
class Text:
    """A tokenizer, the ids that end an answer, and an id to fill rows with.

    `eos_ids` may be empty: answers then end by length only. `pad_id` is any valid id, because pads are masked by
    length and never by id. A prompt and its answer are tokenised apart, as they are when the answer is sampled.
    """

    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    pad_id: int

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """A string as it is, with the tokenizer's own special tokens; messages through the chat template.

        Raises `DataError` for a prompt without tokens or that the template refuses, `ModelError` without a template.
        """
        if isinstance(prompt.content, str):
            ids = self._ids(prompt.content, special=True)
        else:
            ids = self._ids(self._render(prompt, list(prompt.content), generate=True), special=False)
        if not ids:
            raise DataError(f"Prompt {prompt.id} has no tokens.", got=prompt.content, todo="remove the row")
        self._warn_unknown(prompt, ids)
        return ids

    def encode_answer(self, prompt: Prompt, completion: str) -> tuple[int, ...]:
        """The tokens that a model should answer to `encode(prompt)`, with an eos at the end if there is one.

        For messages this is the rendered conversation without the rendered prompt, up to the end of the turn.
        Raises `DataError` when the template renders the prompt differently once it has been answered.
        """
        if isinstance(prompt.content, str):
            ids = self._ids(completion, special=False)
        else:
            ids = self._ids(self._rendered_answer(prompt, list(prompt.content), completion), special=False)
        if not self.eos_ids:
            return ids
        ends = [i for i, token in enumerate(ids) if token in self.eos_ids]
        return ids[: ends[-1] + 1] if ends else (*ids, self.eos_ids[0])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _rendered_answer(self, prompt: Prompt, messages: list[Message], completion: str) -> str:
        asked = self._render(prompt, messages, generate=True)
        answered = self._render(prompt, [*messages, {"role": "assistant", "content": completion}], generate=False)
        if not answered.startswith(asked):
            raise DataError(
                f"The chat template renders prompt {prompt.id} differently once it is answered, so the answer's tokens"
                " cannot be told from the prompt's.",
                got=answered,
                accepted=f"a text that starts with {asked!r}",
                todo="give a chat_template that keeps earlier turns as they are, or use string prompts",
            )
        return answered[len(asked) :]

    def _render(self, prompt: Prompt, messages: list[Message], *, generate: bool) -> str:
        if not self.tokenizer.chat_template:
            raise ModelError(
                f"Prompt {prompt.id} is a list of messages, but the tokenizer has no chat template.",
                got=messages,
                accepted="messages with a template, or a prompt that is a string",
                todo="give chat_template = 'chatml', or a template of your own (its text or file), or string prompts",
            )
        try:
            rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
        except (TemplateError, TypeError, KeyError) as error:
            raise DataError(
                f"The chat template refuses prompt {prompt.id}: {error}",
                got=messages,
                todo="change the messages (roles, order) to what the model's template accepts, or give chat_template",
            ) from error
        return str(rendered)

    def _ids(self, text: str, *, special: bool) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _warn_unknown(self, prompt: Prompt, ids: tuple[int, ...]) -> None:
        if self.tokenizer.unk_token_id in ids:
            warnings.warn(
                f"Prompt {prompt.id} has characters that the tokenizer does not know ({prompt.content!r}); "
                "the model cannot see them.",
                stacklevel=3,
            )


def make_text(
    tokenizer: PreTrainedTokenizerBase,
    generation: GenerationConfig | None = None,
    *,
    chat_template: str | None = None,
) -> Text:
    """`Text` from what a model folder holds. Any of pad, eos and chat template may be missing.

    An answer ends at the tokenizer's eos and at those of the generation configuration. `chat_template` is `chatml`,
    the path of a Jinja file, or the template's own text; it replaces the tokenizer's.
    """
    ends = [tokenizer.eos_token_id, *_as_list(generation.eos_token_id if generation else None)]
    if chat_template is not None:
        tokenizer.chat_template = _template(chat_template, tokenizer)
    if chat_template == "chatml" and TURN_END in tokenizer.get_vocab():
        ends.insert(0, tokenizer.convert_tokens_to_ids(TURN_END))
    eos_ids = tuple(dict.fromkeys(int(end) for end in ends if end is not None))
    if not eos_ids:
        warnings.warn("The model has no eos token: answers end by length only, all are truncated.", stacklevel=2)
    pads = [tokenizer.pad_token_id, *eos_ids, 0]
    return Text(tokenizer, eos_ids, next(int(pad) for pad in pads if pad is not None))


def _template(given: str, tokenizer: PreTrainedTokenizerBase) -> str:
    if given == "chatml":
        end = TURN_END if TURN_END in tokenizer.get_vocab() else tokenizer.eos_token or TURN_END
        return CHATML.replace("END", str(end))
    if "{" in given:
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"The chat template cannot be read: {error}",
            got=given,
            accepted="'chatml', the path of a Jinja file, or a template's text (with {{ or {%)",
        ) from error


def _as_list(ids: Any) -> Iterable[int | None]:
    return ids if isinstance(ids, list) else [ids]
