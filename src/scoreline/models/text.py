"""A tokenizer as the rest of Scoreline sees it: prompts to ids, ids to text, and which ids end an answer."""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

from jinja2.exceptions import TemplateError
from transformers import GenerationConfig, PreTrainedTokenizerBase

from scoreline.errors import DataError, ModelError
from scoreline.types import Message, Prompt

NAMED = 5
"""Prompts with unknown characters that are named."""
TURN_END = "<|im_end|>"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}END\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The template that is called `chatml`; END is `<|im_end|>` where the vocabulary has it, else the eos token."""


class Text:
    """A tokenizer, the ids that end an answer, and an id to fill rows with.

    `eos_ids` are the tokenizer's and the generation configuration's. They may be empty: answers then end by length
    only. `pad_id` is any valid id, because pads are masked by length and never by id. `chat_template` replaces the
    tokenizer's: `chatml`, the path of a Jinja file, or a template's own text.

    A prompt and its answer are tokenised apart, as they are when the answer is sampled.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        generation: GenerationConfig | None = None,
        *,
        chat_template: str | None = None,
    ) -> None:
        if chat_template is not None:
            tokenizer.chat_template = _template(chat_template, tokenizer)
        ends = _ends(tokenizer, generation, chatml=chat_template == "chatml")
        pads = [tokenizer.pad_token_id, *ends, 0]
        self.tokenizer = tokenizer
        self.eos_ids = ends
        self.pad_id = next(int(pad) for pad in pads if pad is not None)
        self._unknown: set[str] = set()
        self._alone: dict[int, str] = {}
        self._behind: dict[int, str] = {}

    def encode(self, prompt: Prompt, *, answered: bool = False) -> tuple[int, ...]:
        """A string as it is, with the tokenizer's own special tokens; messages through the chat template.

        Messages are followed by the opening of the answer, unless they end with it already (`answered`).

        Raises `DataError` for a prompt without tokens or that the template refuses, `ModelError` without a template.
        """
        if isinstance(prompt.content, str):
            ids = self._ids(prompt.content, special=True)
        else:
            ids = self._ids(self._render(prompt, list(prompt.content), generate=not answered), special=False)
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

    def reach(self, ids: Sequence[int], text: str, chars: int) -> int:
        """min i with decode(ids[:i+1])[:chars] == text[:chars]: the token that completes the first `chars` characters.

        `text` is what the ids decode to. A character is there when all of its bytes are.
        """
        said = self._concatenated(ids, text)
        if said is not None:
            return min(bisect_left(list(accumulate(map(len, said))), chars), len(ids) - 1)

        def covers(i: int) -> bool:
            return self.decode(ids[: i + 1])[:chars] == text[:chars]

        first = bisect_left(range(len(ids)), True, key=covers)
        # Some decoders take back what they said before a character of which one, two or three bytes are there.
        while (earlier := next(filter(covers, range(max(first - 4, 0), first)), None)) is not None:
            first = earlier
        return min(first, len(ids) - 1)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each token adds to the text: joined they are `decode(ids)`.

        A character of several tokens belongs to the one that completes it; a special token adds nothing.
        """
        text = self.decode(ids)
        said = self._concatenated(ids, text)
        if said is not None:
            return said
        ends = accumulate((shared(self.decode(ids[: i + 1]), text) for i in range(len(ids))), max, initial=0)
        return [text[start:end] for start, end in pairwise(ends)]

    def unsaid(self, token: str) -> int | None:
        """The id of a token of the vocabulary that decoding leaves out; None for every other text."""
        known = self.tokenizer.get_vocab().get(token)
        return known if known is not None and self.decode([known]) == "" else None

    def _concatenated(self, ids: Sequence[int], text: str) -> list[str] | None:
        """The tokens' own texts, where those make up the text; not so if a character has bytes in several tokens.

        Where bytes make no character, tokens may say more or fewer replacement marks together than alone, which can
        come out even in the end and be wrong on the way.
        """
        if "\ufffd" in text:
            return None
        for token in {*ids} - self._alone.keys():
            self._alone[token] = self.decode([token])
            self._behind[token] = self.decode([token, token])[len(self._alone[token]) :]
        said = [self._behind[token] if i else self._alone[token] for i, token in enumerate(ids)]
        return said if "".join(said) == text else None

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
        return tuple(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    def _warn_unknown(self, prompt: Prompt, ids: tuple[int, ...]) -> None:
        """Once of each prompt: judges read it again with every answer to it. A whole file of them is not listed."""
        if self.tokenizer.unk_token_id not in ids or prompt.id in self._unknown or len(self._unknown) == NAMED:
            return
        self._unknown.add(prompt.id)
        last = len(self._unknown) == NAMED
        warnings.warn(
            f"Prompt {prompt.id} has characters that the tokenizer does not know ({prompt.content!r}); "
            f"the model cannot see them.{' Further such prompts are not named.' if last else ''}",
            stacklevel=3,
        )


def shared(left: str, right: str) -> int:
    """How many characters two texts have in common from the start."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def _ends(tokenizer: PreTrainedTokenizerBase, generation: GenerationConfig | None, *, chatml: bool) -> tuple[int, ...]:
    turn_end = tokenizer.get_vocab().get(TURN_END) if chatml else None
    configured = generation.eos_token_id if generation else None
    ends = [turn_end, tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])]
    known = tuple(dict.fromkeys(int(end) for end in ends if end is not None))
    if not known:
        warnings.warn("The model has no eos token: its answers end by length only.", stacklevel=3)
    return known


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
