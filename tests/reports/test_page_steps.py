from __future__ import annotations

import re
from pathlib import Path

import pytest
from reports.reading import page
from reports.runs import CONFIG, annotated, evaluation, letters, rollout, stepped, write_rounds, write_run

from scoreline.reports.page import write_report
from scoreline.reports.record import Record
from scoreline.types import Rollout


def run(folder: Path, *answers: Rollout, samples: tuple[Rollout, ...] = ()) -> Record:
    """A run of one step with these answers, whose tokens alternate between an advantage of 1 and -0.5."""
    record = Record(folder, pieces=letters)
    (folder / "config.resolved.toml").write_text(CONFIG)
    longest = max(len(answer.completion.token_ids) for answer in answers)
    record.evaluation(evaluation(0, 0.4, samples=samples))
    record.report(annotated(1, answers, [[1.0 if t % 2 else -0.5 for t in range(longest)] for _ in answers]))
    record.evaluation(evaluation(1, 0.5, samples=samples))
    return record


def html(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def test_steps_are_tinted_and_carry_their_number(tmp_path: Path) -> None:
    run(tmp_path, stepped(("3+8=11\n", 1.0), ("so 12", 0.0)))
    right = '<span class="t4" title="step reward 1 (sums 1, judge 1)">3+8=11</span><small class="given">1</small>\n'
    wrong = '<span class="t-4" title="step reward 0 (sums 0, judge 0)">so 12</span><small class="given">0</small></div>'
    assert right + wrong in html(tmp_path)


def test_tokens_are_tinted_by_their_advantage(tmp_path: Path) -> None:
    run(tmp_path, stepped(("12", 1.0)))
    first, second = (
        '<span class="t-2" title="advantage −0.50">1</span>',
        '<span class="t4" title="advantage +1.00">2</span>',
    )
    assert first + second in html(tmp_path)


def test_the_two_views_are_switched_without_a_script(tmp_path: Path) -> None:
    run(tmp_path, stepped(("12", 1.0)))
    written, text = page(tmp_path), html(tmp_path)
    assert written.attributes.count(("type", "radio")) == written.attributes.count(("name", "view")) == 2
    assert [value for name, value in written.attributes if name == "for"] == ["by-step", "by-token"]
    assert [value for name, value in written.attributes if name == "id" and value.startswith("by-")] == [
        "by-step",
        "by-token",
    ]
    assert "#by-step:checked ~ .stages .by-token, #by-token:checked ~ .stages .by-step { display: none; }" in text
    assert re.search(r"<input[^>]*>\s*<label.*<input[^>]*>\s*<label.*<div class=\"stages\">", text, re.DOTALL)
    assert "script" not in written.tags


def test_answers_without_steps_have_one_view_and_one_legend(tmp_path: Path) -> None:
    run(tmp_path, rollout("11"))
    written = page(tmp_path)
    assert "input" not in written.tags
    assert "tokens, by advantage" in written.text
    assert "steps, by reward" not in written.text
    assert "≥ +1.00" in written.text


def test_answers_without_anything_stay_plain(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert not [value for name, value in page(tmp_path).attributes if name == "class" and "legend" in value]


def test_held_out_answers_show_the_rewards_of_their_steps(tmp_path: Path) -> None:
    run(tmp_path, rollout("11"), samples=(stepped(("1+1=2", 0.75), (" or 3", -0.25)),))
    text = html(tmp_path)
    assert text.count('title="step reward −0.25 (sums −0.25, judge −0.25)"> or 3<') == 0
    assert text.count('<span class="t-1" title="step reward −0.25 (sums −0.25, judge −0.25)">or 3</span>') == 2
    assert "steps, by reward" in page(tmp_path).text


@pytest.mark.parametrize(
    "hostile", ["</span><script>alert(1)</script>", "{{ 7 * 191 }}", "\"><b title='", "&lt;b&gt;", "\u202e\x1b[31m"]
)
def test_steps_tokens_and_names_are_text_never_markup(tmp_path: Path, hostile: str) -> None:
    def answer(step: str) -> Rollout:
        made = stepped((step, 1.0), ("x", 0.0))
        made.reward.step_parts[step] = (1.0, 0.0)
        return made

    run(tmp_path / "plain", answer("a" * len(hostile)))
    run(tmp_path / "hostile", answer(hostile))
    assert page(tmp_path / "hostile").tags == page(tmp_path / "plain").tags
    assert "script" not in page(tmp_path / "hostile").tags
    assert "\u202e" not in html(tmp_path / "hostile")
    assert "\x1b" not in html(tmp_path / "hostile")


def test_every_tint_has_its_style_in_light_dark_and_print(tmp_path: Path) -> None:
    run(tmp_path, stepped(("12", 1.0)))
    text = html(tmp_path)
    for level in (-4, -3, -2, -1, 1, 2, 3, 4):
        assert f".t{level} {{ background: rgb(var(--{'upper' if level > 0 else 'lower'}) /" in text
    assert text.count("--lower: ") == text.count("--upper: ") == 3
    assert "print-color-adjust: exact" in text


def test_rounds_have_their_section(tmp_path: Path) -> None:
    write_rounds(tmp_path, (0.4, 0.5, 0.5), (0.1, 0.5, 0.9))
    written = page(tmp_path)
    for part in ("Rounds", "steps 3 – 4", "true accuracy", "judge accuracy before", "calibration error 0.06", "1,200"):
        assert part in written.text
    assert "A sign of over-optimisation: the judged score rose from 0.10 to 0.90 while true accuracy" in written.text
    assert ("class", "finding alarm") in written.attributes
    assert "round 2" in written.text
    assert written.tags.count("svg") == written.tags.count("figure") + 1  # the learning curve has a narrow one too


def test_a_judge_without_rounds_has_its_drawings(tmp_path: Path) -> None:
    record = write_rounds(tmp_path, (0.4, 0.9), (0.1, 0.9))
    (record.folder / "rounds.jsonl").unlink()
    written = page(tmp_path)
    for part in ("Judged and true", "Judged score", "True accuracy", "Judge accuracy", "rose with it"):
        assert part in written.text
    assert "Rounds" not in written.text
    assert ("class", "finding alarm") not in written.attributes


def test_the_table_of_the_result_has_the_judge_where_there_is_one(tmp_path: Path) -> None:
    write_rounds(tmp_path, (0.4, 0.9), (0.1, 0.7))
    assert "mean score that the training rewards give" in page(tmp_path).text
    write_run(tmp_path / "none")
    assert "mean score that the training rewards give" not in page(tmp_path / "none").text
