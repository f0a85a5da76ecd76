"""Prompts and answers to ids and back, with tokenizers that lack this or that."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig

from scoreline.errors import DataError, ModelError
from scoreline.models.loading import load_causal_lm, load_tokenizer
from scoreline.models.text import NAMED, Text
from scoreline.types import Prompt
from tests.vocabularies import BROKEN, EOS, MARK, WORDS, byte_fallback, byte_level, tokens

Characters = Callable[..., Any]
SUM = Prompt("train:0", "3+8=")
CHAT = Prompt("train:1", ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "3+8?"}))
ROLES = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
FORGETFUL = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"


def read(text: Text, ids: tuple[int, ...]) -> str:
    """All of it, special tokens too."""
    return "".join(text.tokenizer.convert_ids_to_tokens(ids))


def test_a_string_is_tokenised_as_it_is(characters: Characters) -> None:
    text = Text(characters(eos_token="<eos>"))
    ids = text.encode(SUM)
    assert read(text, ids) == "3+8="
    assert text.decode(ids) == "3+8="


def test_an_answer_ends_in_eos_and_decodes_without_it(characters: Characters) -> None:
    text = Text(characters(eos_token="<eos>"))
    ids = text.encode_answer(SUM, "11")
    assert read(text, ids) == "11<eos>"
    assert text.decode(ids) == "11"


def test_the_tokenizers_own_special_tokens_open_a_string_and_not_an_answer(
    folder: Path, characters: Characters
) -> None:
    tokenizer = characters(bos_token="<bos>", eos_token="<eos>")
    bos = tokenizer.bos_token_id
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", bos)])
    text = Text(tokenizer)
    assert read(text, text.encode(SUM)) == "<bos>3+8="
    assert read(text, text.encode_answer(SUM, "11")) == "11<eos>"


def test_without_pad_any_valid_id_pads(characters: Characters) -> None:
    padded, ended = characters(pad_token="<pad>", eos_token="<eos>"), characters(eos_token="<eos>")
    assert Text(padded).pad_id == padded.pad_token_id
    assert Text(ended).pad_id == ended.eos_token_id


def test_without_eos_answers_end_by_length_and_a_warning_says_so(characters: Characters) -> None:
    with pytest.warns(UserWarning, match="no eos token: its answers end by length only"):
        text = Text(characters())
    assert text.eos_ids == ()
    assert text.pad_id == 0
    assert read(text, text.encode_answer(SUM, "11")) == "11"


@pytest.mark.parametrize(("configured", "expected"), [(None, (101,)), (7, (101, 7)), ([7, 101, 9], (101, 7, 9))])
def test_the_generation_configurations_ends_count_too(
    characters: Characters, configured: Any, expected: tuple[int, ...]
) -> None:
    assert Text(characters(eos_token="<eos>"), GenerationConfig(eos_token_id=configured)).eos_ids == expected


def test_messages_go_through_the_template(characters: Characters) -> None:
    text = Text(characters("<end>", eos_token="<eos>"), chat_template=ROLES)
    assert read(text, text.encode(CHAT)) == "[system]Be brief.<end>[user]3+8?<end>[assistant]"


def test_an_answer_to_messages_goes_up_to_the_end_of_its_turn(characters: Characters) -> None:
    text = Text(characters("<end>", eos_token="<eos>"), chat_template=ROLES)
    assert read(text, text.encode_answer(CHAT, "11")) == "11<end><eos>"
    ended = Text(characters(eos_token="<end>"), chat_template=ROLES.replace("<end>", "<end>\n"))
    assert read(ended, ended.encode_answer(CHAT, "11")) == "11<end>"


def test_chatml_ends_turns_in_its_own_token_where_there_is_one(characters: Characters) -> None:
    plain = Text(characters(eos_token="<eos>"), chat_template="chatml")
    assert read(plain, plain.encode(CHAT)).endswith("<|im_start|>user\n3+8?<eos>\n<|im_start|>assistant\n")
    assert read(plain, plain.encode_answer(CHAT, "11")) == "11<eos>"
    knows = Text(characters("<|im_start|>", "<|im_end|>", eos_token="<eos>"), chat_template="chatml")
    assert read(knows, knows.encode_answer(CHAT, "11")) == "11<|im_end|>"
    assert len(knows.eos_ids) == 2


def test_a_template_from_a_file(characters: Characters, tmp_path: Path) -> None:
    (tmp_path / "roles.jinja").write_text(ROLES)
    text = Text(characters("<end>", eos_token="<eos>"), chat_template=str(tmp_path / "roles.jinja"))
    assert read(text, text.encode(CHAT)).endswith("[assistant]")
    with pytest.raises(ModelError, match=r"template cannot be read[\s\S]*chatml"):
        Text(characters(eos_token="<eos>"), chat_template=str(tmp_path / "none.jinja"))


def test_messages_without_a_template_name_three_ways_out(characters: Characters) -> None:
    text = Text(characters(eos_token="<eos>"))
    with pytest.raises(ModelError, match=r"train:1.*no chat template[\s\S]*'chatml'.*of your own.*string prompts"):
        text.encode(CHAT)


def test_a_template_that_changes_what_was_said_is_refused(characters: Characters) -> None:
    text = Text(characters(eos_token="<eos>"), chat_template=FORGETFUL)
    with pytest.raises(DataError, match=r"prompt train:1 differently once it is answered[\s\S]*string prompts"):
        text.encode_answer(CHAT, "11")


def test_a_template_that_raises_names_the_prompt(characters: Characters) -> None:
    picky = "{% if messages[0].role == 'system' %}{{ raise_exception('No system role.') }}{% endif %}"
    with pytest.raises(DataError, match=r"refuses prompt train:1: No system role\."):
        Text(characters(eos_token="<eos>"), chat_template=picky).encode(CHAT)


def test_a_prompt_without_tokens_is_refused(characters: Characters) -> None:
    with pytest.raises(DataError, match="train:9 has no tokens"):
        Text(characters(eos_token="<eos>")).encode(Prompt("train:9", ""))


def test_unknown_characters_are_warned_of(characters: Characters) -> None:
    text = Text(characters(eos_token="<eos>"))
    with pytest.warns(UserWarning, match="train:3 has characters that the tokenizer does not know"):
        text.encode(Prompt("train:3", "3\N{MULTIPLICATION SIGN}8="))
    with warnings.catch_warnings(action="error"):
        text.encode(SUM)
        text.encode(Prompt("train:3", "3\N{MULTIPLICATION SIGN}8=24"))  # it was said of this prompt


def test_not_every_prompt_of_a_file_is_warned_of(characters: Characters) -> None:
    text = Text(characters(eos_token="<eos>"))
    prompts = [Prompt(f"train:{row}", "3\N{MULTIPLICATION SIGN}8=") for row in range(9)]
    with pytest.warns(UserWarning, match="characters that the tokenizer does not know") as told:
        list(map(text.encode, prompts))
    assert [str(one.message).split()[1] for one in told] == [f"train:{row}" for row in range(NAMED)]
    assert [str(one.message).endswith("Further such prompts are not named.") for one in told] == [False] * 4 + [True]


BYTES, FALLBACK = Text(byte_level()), Text(byte_fallback())
SMALL = tokens(BYTES.tokenizer, *WORDS, *BROKEN, *"ab;#", *(bytes([byte]) for byte in "你😀é".encode()), MARK, EOS)
SAID = st.text(st.sampled_from("ab 1;=\n你😀é"), max_size=12)
PARTS = st.lists(st.sampled_from(SMALL), min_size=1, max_size=12)


def first_prefix(text: Text, ids: list[int], chars: int) -> int:
    """What `reach` means, token by token."""
    whole = text.decode(ids)
    return next(i for i in range(len(ids)) if text.decode(ids[: i + 1])[:chars] == whole[:chars])


def agrees(text: Text, ids: list[int]) -> None:
    """reach is the first prefix, and the pieces are the text cut where it says."""
    whole, pieces = text.decode(ids), text.pieces(ids)
    assert "".join(pieces) == whole
    assert len(pieces) == len(ids)
    for chars in range(1, len(whole) + 1):
        reached = text.reach(ids, whole, chars)
        assert reached == first_prefix(text, ids, chars), chars
        assert len("".join(pieces[:reached])) < chars <= len("".join(pieces[: reached + 1]))


@given(SAID)
def test_every_character_is_reached_at_the_first_prefix_that_says_it(said: str) -> None:
    for text in (BYTES, FALLBACK):
        ids = text.tokenizer(f"a{said}", add_special_tokens=False)["input_ids"]
        agrees(text, [*ids, text.eos_ids[0]])


@given(PARTS)
@example([256, 272, 228, 189])  # broken characters whose tokens say one mark less alone than together
def test_reach_and_pieces_of_tokens_that_no_text_would_be_cut_into(ids: list[int]) -> None:
    agrees(BYTES, ids)


@given(SAID, st.integers(1, 40))
def test_reach_and_pieces_of_an_answer_that_ends_inside_a_character(said: str, kept: int) -> None:
    agrees(BYTES, BYTES.tokenizer(f"a{said}", add_special_tokens=False)["input_ids"][:kept])


def test_a_character_belongs_to_the_token_that_completes_it() -> None:
    ids = tokens(BYTES.tokenizer, "ab", b"\xe4\xbd", b"\xa0a", MARK, "\n\n", EOS)
    assert BYTES.pieces(ids) == ["ab", "", "你a", "", "\n\n", ""]
    assert [BYTES.reach(ids, "ab你a\n\n", chars) for chars in range(7)] == [0, 0, 0, 2, 2, 4, 4]


def test_a_decoder_that_takes_back_characters_does_not_move_them() -> None:
    ids = FALLBACK.tokenizer("你😀😀", add_special_tokens=False)["input_ids"]
    assert FALLBACK.pieces(ids) == ["", "", "", "你", "", "", "", "😀", "", "", "", "😀"]
    assert [FALLBACK.reach(ids, "你😀😀", chars) for chars in (1, 2, 3)] == [3, 7, 11]


def test_unsaid_tokens_are_those_that_decoding_leaves_out() -> None:
    assert BYTES.unsaid(MARK) == tokens(BYTES.tokenizer, MARK)[0]
    assert BYTES.unsaid(EOS) == BYTES.eos_ids[0]
    assert [BYTES.unsaid(token) for token in (";", "ab", "\n\n", "nowhere")] == [None] * 4


@pytest.fixture(scope="module")
def smollm2() -> str:
    path = os.environ.get("SCORELINE_SMOLLM2")
    if not path:
        pytest.skip("SCORELINE_SMOLLM2 names no folder of SmolLM2-135M-Instruct")
    return path


def test_a_real_chat_model(smollm2: str) -> None:
    model = load_causal_lm(smollm2)
    text = Text(load_tokenizer(smollm2), model.generation_config)
    asked = text.encode(Prompt("0", ({"role": "user", "content": "What is 3 + 8?"},)))
    assert read(text, asked).endswith("<|im_end|>Ċ<|im_start|>assistantĊ")
    assert read(text, text.encode_answer(Prompt("0", CHAT.content), "11")) == "11<|im_end|>"
    assert text.tokenizer.eos_token_id in text.eos_ids
    assert text.decode(text.encode_answer(SUM, "The sum is 11.")) == "The sum is 11."


@pytest.mark.parametrize("said", ["3 + 8 = 11.\n2. 你好😀\n\nSo é it is.", "naïve 🤷🏽‍♀️ = 价格\n#### 7", "\n\n a  b"])
def test_the_pieces_of_a_real_vocabulary(smollm2: str, said: str) -> None:
    text = Text(load_tokenizer(smollm2))
    ids = text.tokenizer(said, add_special_tokens=False)["input_ids"]
    for kept in range(1, len(ids) + 1):
        agrees(text, [*ids[:kept], text.eos_ids[0]])
