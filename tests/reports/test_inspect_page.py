"""The page and the words: what a model wrote is text, every number can be read, views switch without scripts."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from reports.reading import Page

from scoreline.objectives.coefficients import Alignment
from scoreline.objectives.zoo import grpo, naive, ppo
from scoreline.reports.inspect.page import render
from scoreline.reports.inspect.table import show
from scoreline.reports.inspect.view import Inspection, Sample, Telling, Token, WhatIf
from scoreline.reports.inspect.words import short, told

PIECES = ("3", "+", "8", "=", "#", "1", "1")


def telling(advantage: float = 1.5, *, policy: float | None = None, pull: float = -0.01) -> Telling:
    shared = advantage if policy is None else policy
    return Telling(advantage, policy == 0.0 and advantage != 0, 0.02, shared, pull, shared + pull, 0.05)


def token(index: int, piece: str, told: Telling, **more: object) -> Token:
    plain = Token(index, piece, True, -0.5, -0.51, -0.4, -0.6, 1.116, None, None, None, told)
    return replace(plain, **more)  # type: ignore[arg-type]


def sample(index: int = 0, reward: float | None = 1.0, *, tellings: list[Telling] | None = None) -> Sample:
    given = tellings or [telling() for _ in PIECES]
    tokens = tuple(token(i, piece, one) for i, (piece, one) in enumerate(zip(PIECES, given, strict=False)))
    tokens = (*tokens[:-1], replace(tokens[-1], reward=reward))
    return Sample(index, f"train:{index}", 0, "3+8=", "#11", reward, {"exact": reward}, (), "stop", "Said.", tokens)


def inspection(*samples: Sample, what_if: WhatIf | None = None) -> Inspection:
    notes = ("Something to know.",)
    return Inspection("small", 4, "grpo", 0.04, samples, {"policy": -0.1, "kl": 0.002}, notes, what_if)


OTHER = WhatIf(
    "dr_grpo",
    {"objective.kl.beta": (0.04, None)},
    {"policy": -0.2},
    Alignment(0.9, 0.5, 0.25),
    Alignment(0.8, 0.1, 0.2),
    "checkpoint step-000003",
)


def test_the_page_runs_nothing_and_loads_nothing() -> None:
    hostile = replace(sample(), answer="<b>", prompt="<script>alert(1)</script>", id="<i>")
    hostile = replace(hostile, tokens=(token(0, "<img src=x onerror=alert(1)>\u202e", telling()),))
    html = render(inspection(hostile), 0)
    page = Page(html)
    assert "script" not in page.tags
    assert "img" not in page.tags
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    assert ("content", policy) in page.attributes
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "<script>alert(1)</script>" in page.text
    assert "<img src=x onerror=alert(1)>�" in page.text


def test_the_views_switch_by_radio_buttons() -> None:
    html = render(inspection(sample(), sample(1, 0.0)))
    page = Page(html)
    names = [value for name, value in page.attributes if name == "id" and value.startswith("by-")]
    assert names == ["by-coefficient", "by-advantage", "by-kl"]
    assert page.attributes.count(("type", "radio")) == 3
    for name in names:
        assert f"#{name}:checked ~ .stages .view:not(.{name})" in html
        assert page.attributes.count(("class", f"text view {name}")) == 2
    other = replace(sample(), tokens=tuple(replace(one, other=telling(0.5)) for one in sample().tokens))
    page = Page(render(inspection(replace(other, other_words="Less."), what_if=OTHER)))
    assert ("id", "by-other") in page.attributes
    assert "Under dr_grpo: Less." in page.text
    assert "cosine 0.8000" in page.text
    assert "objective.kl.beta: 0.04 -> none" in page.text


def test_a_pointer_reads_every_number() -> None:
    titles = [value for name, value in Page(render(inspection(sample()))).attributes if name == "title"]
    assert "token 0: GC +1.5 (policy) −0.01 (KL) = +1.49, A +1.5, ratio 1.116, KL 0.02" in titles


def test_tokens_are_tinted_by_their_sign_and_clipped_ones_marked() -> None:
    html = render(inspection(sample(tellings=[telling(1.5), telling(-1.5), telling(1.5, policy=0.0), telling(0.0)])))
    classes = [value for name, value in Page(html).attributes if name == "class"]
    assert {"t4", "t-4"} <= set(classes)
    assert any(value.endswith(" clipped") for value in classes)


def test_a_chosen_sample_comes_first_with_its_group_and_a_table() -> None:
    stranger = replace(sample(2), group=1)
    page = Page(render(inspection(sample(), sample(1, 0.0), stranger), 1))
    order = [page.text.index(f"Sample {index} ·") for index in (1, 0)]
    assert order == sorted(order)
    assert "Sample 2 ·" not in page.text
    assert page.tags.count("tr") == 1 + len(PIECES)
    assert "Token by token" in page.text


def test_long_answers_are_cut_beside_others_only() -> None:
    many = tuple(token(i, "x", telling()) for i in range(900))
    long = replace(sample(), tokens=many)
    assert "300 more tokens" in Page(render(inspection(long))).text
    assert "more tokens" not in Page(render(inspection(long), 0)).text


@pytest.mark.parametrize(
    ("one", "others", "objective", "said"),
    [
        (
            sample(),
            [0.0, 0.0],
            grpo,
            "It earned 1; the 3 answers to its question earned 0.33 on average. Each of its 7 ",
        ),
        (sample(), [1.0], grpo, "It earned 1, as all 2 answers to its question did."),
        (sample(), [], naive, "It earned 1, against no score line."),
        (sample(), [], grpo, "tokens was told +1.5: become likelier."),
        (sample(tellings=[telling(-0.5)] * 7), [], grpo, "was told −0.5: become less likely."),
        (sample(tellings=[telling(0.0, pull=0.0)] * 7), [], grpo, "told nothing: every advantage is 0."),
        (
            sample(tellings=[telling(1.0), telling(-0.5)]),
            [],
            grpo,
            "from −0.5 to +1: 1 to become likelier, 1 to become ",
        ),
        (sample(tellings=[telling(1.0, policy=0.0)] * 2), [], grpo, "The clip took the gradient of 2 of them away."),
        (sample(), [], grpo, "The pull to the reference is 0.01 in the mean, against the advice on 7 tokens."),
        (sample(0, None), [], grpo, "Nothing could score it, so it was told nothing."),
    ],
)
def test_the_words_say_what_an_answer_was_told(one: Sample, others: list[float], objective: object, said: str) -> None:
    saved = [one, *(sample(i + 1, reward) for i, reward in enumerate(others))]
    assert said in told(one, saved, objective)  # type: ignore[arg-type]


def test_the_words_name_the_critic_and_the_mask() -> None:
    one = sample()
    foreseen = replace(one, tokens=tuple(replace(each, value=0.25) for each in one.tokens))
    assert "the critic foresaw 0.25" in told(foreseen, [foreseen], ppo)
    masked = replace(one, tokens=tuple(replace(each, own=False) for each in one.tokens))
    assert told(masked, [masked], grpo).startswith("It carries no loss")


def test_control_characters_reach_no_terminal() -> None:
    stream = io.StringIO()
    one = replace(sample(), answer="\x1b[31mred", prompt="a\x07b")
    one = replace(one, tokens=(token(0, "\x1b]0;title\x07", telling()),))
    for chosen in (None, 0):
        show(inspection(one), chosen, None, stream)
    show(inspection(one), 0, 0, stream)
    assert "\x1b" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()


def test_columns_that_nothing_fills_are_left_out() -> None:
    stream = io.StringIO()
    one = sample()
    bare = [replace(each, reference=None, told=replace(each.told, kl=None, pull=0.0)) for each in one.tokens]
    show(inspection(replace(one, tokens=tuple(bare))), 0, None, stream)
    heading = next(line for line in stream.getvalue().splitlines() if line.startswith("t  "))
    assert heading.split() == ["t", "token", "sampler", "old", "now", "ratio", "reward", "A", "GC", "w"]


def test_numbers_have_a_sign_and_three_digits() -> None:
    assert [short(value) for value in (1.21602, -0.04031, 0.0, None)] == ["+1.22", "−0.0403", "0", "–"]


def test_a_line_through_a_token_is_of_the_objective_that_is_shown() -> None:
    held, free = telling(1.5, policy=0.0), telling(0.5)
    tokens = tuple(replace(one, told=free, other=held) for one in sample().tokens)
    html = render(inspection(replace(sample(), tokens=tokens), what_if=OTHER))
    own, other = html.split('class="text view by-other"')
    assert ' clipped" title' not in own
    assert other.count(' clipped" title') == len(PIECES)
