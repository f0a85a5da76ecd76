"""The embedded model is an ordinary folder that transformers loads and that answers sums."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scoreline.models import tiny

TWO_MEGABYTES = 2_000_000


def test_the_tokenizer_has_one_token_a_character() -> None:
    _, tokenizer = tiny.build(0)
    ids = tokenizer("3+8=11;11+12=23#23").input_ids
    assert len(ids) == 18
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == "3+8=11;11+12=23#23"
    assert tokenizer("3 8").input_ids[1] == tokenizer.unk_token_id


def test_the_folder_is_small_and_loads_with_plain_transformers() -> None:
    assert (tiny.path() / "model.safetensors").stat().st_size < TWO_MEGABYTES
    model = AutoModelForCausalLM.from_pretrained(tiny.path())
    tokenizer = AutoTokenizer.from_pretrained(tiny.path())
    fresh, same = tiny.build(0)
    assert tokenizer.get_vocab() == same.get_vocab()
    assert {name: p.shape for name, p in model.named_parameters()} == {n: p.shape for n, p in fresh.named_parameters()}


def test_it_generates_an_answer_and_stops() -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny.path())
    tokenizer = AutoTokenizer.from_pretrained(tiny.path())
    ids = model.generate(**tokenizer(["3+8+12="], return_tensors="pt", return_token_type_ids=False), do_sample=False)
    assert ids[0, -1] == tokenizer.eos_token_id
    assert "#" in tokenizer.decode(ids[0], skip_special_tokens=True)


def test_it_guesses_more_often_than_it_works() -> None:
    """Sampled at temperature 1, the first character of an answer is mostly the `#` of a guess."""
    model = AutoModelForCausalLM.from_pretrained(tiny.path())
    tokenizer = AutoTokenizer.from_pretrained(tiny.path())
    with torch.no_grad():
        logits = model(**tokenizer(["13+8+12="], return_tensors="pt", return_token_type_ids=False)).logits
    guess = logits[0, -1].softmax(-1)[tokenizer.get_vocab()["#"]]
    assert 0.5 < guess < 0.9
