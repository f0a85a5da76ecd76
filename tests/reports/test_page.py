from __future__ import annotations

import re
from pathlib import Path

import pytest
from reports.reading import page
from reports.runs import CONFIG, evaluation, report, rollout, write_run

from scoreline.errors import CheckpointError
from scoreline.reports.page import write_report
from scoreline.reports.record import Record

HOSTILE = "</td><script>alert(1)</script>"


def headline(folder: Path) -> str:
    html = write_report(folder).read_text(encoding="utf-8")
    (inside,) = re.findall(r"<h1>(.*?)</h1>", html, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>|&nbsp;", " ", inside).split())


def test_the_report_lies_in_the_run_folder(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert write_report(tmp_path) == tmp_path / "report.html"


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (0.4, 0.9, "GRPO took held-out accuracy from 0.40 [0.35 – 0.45] to 0.90 [0.85 – 0.95] in 6 steps, 35 s."),
        (0.9, 0.4, "GRPO lost held-out accuracy, from 0.90 [0.85 – 0.95] to 0.40 [0.35 – 0.45] in 6 steps, 35 s."),
    ],
)
def test_the_headline_says_what_happened(tmp_path: Path, before: float, after: float, sentence: str) -> None:
    write_run(tmp_path, before=before, after=after)
    assert headline(tmp_path) == sentence


def test_the_headline_claims_nothing_within_the_uncertainty(tmp_path: Path) -> None:
    write_run(tmp_path, before=0.5, after=0.55)
    assert headline(tmp_path).startswith("GRPO made no clear difference to held-out accuracy: 0.50")


def test_a_run_without_evaluation(tmp_path: Path) -> None:
    record = Record(tmp_path)
    (tmp_path / "config.resolved.toml").write_text(CONFIG)
    record.report(report(1))
    record.summary(algorithm="actor_critic", model="tiny", steps=1, wall_s=300.0, tokens=10)
    assert headline(tmp_path) == "Actor critic trained in 1 steps, 5 min."


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    (tmp_path / "config.resolved.toml").write_text(CONFIG)
    assert headline(tmp_path) == "GRPO has come 0 steps so far."


def test_no_run_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a run"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_everything_is_on_the_page(tmp_path: Path) -> None:
    write_run(tmp_path)
    text = page(tmp_path).text
    for part in ("avg@4", "pass@4", "Learning", "Answer length", "before and after", "Step 1", "Step 4", "Step 6"):
        assert part in text
    for part in ("minimise", "GroupNorm", "objective.surrogate.low = 0.2", 'algorithm = "grpo"', "cpu", "1,234"):
        assert part in text


def test_right_and_wrong_are_marked_by_the_evaluations_bound(tmp_path: Path) -> None:
    record = write_run(tmp_path)
    (tmp_path / "config.resolved.toml").write_text(CONFIG.replace("1.0", "0.5"))
    record.evaluation(evaluation(6, 0.9, samples=(rollout("almost", 0.6),)))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    before, after = re.findall(r'<div class="answer (\w+)">\s*<p class="verdict"><span>(\w+)', html)
    assert (before, after) == (("wrong", "before"), ("right", "after"))


def test_training_answers_are_not_judged_by_another_reward(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "config.resolved.toml").write_text(CONFIG + '[[eval.reward]]\nfunction = "exact"\n')
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert html.count("✓ right") + html.count("✗ wrong") == 2


@pytest.mark.parametrize(
    "hostile", [HOSTILE, '"><img src=x onerror=alert(1)>', "{{ 7 * 191 }}", "</style><b>", "&lt;b&gt;"]
)
def test_what_a_model_or_a_data_set_wrote_is_text_never_markup(tmp_path: Path, hostile: str) -> None:
    plain = tmp_path / "plain"
    write_run(plain)
    record = write_run(tmp_path / "hostile")
    sample = (rollout(hostile, prompt=hostile),)
    record.rewind(-1)
    record.evaluation(evaluation(0, 0.4, samples=sample))
    for step in range(1, 7):
        record.report(report(step, answers=[rollout(hostile, prompt=hostile), rollout(hostile, 0.0, prompt=hostile)]))
    record.evaluation(evaluation(6, 0.9, samples=sample))
    written = page(record.folder)
    assert written.tags == page(plain).tags
    assert written.text.count(hostile) == 3 + 3 + 6
    assert "script" not in written.tags


def test_hostile_names_in_files_are_text(tmp_path: Path) -> None:
    record = write_run(tmp_path / HOSTILE.replace("/", "_"))
    expected = page(record.folder).tags
    record.environment({HOSTILE: HOSTILE, "nested": {HOSTILE: HOSTILE}})
    with (record.folder / "config.resolved.toml").open("a") as file:
        file.write(f"note = '{HOSTILE}'\n")
    assert page(record.folder).tags == expected
    record.summary(algorithm=HOSTILE, model=HOSTILE, steps=6, wall_s=1.0, tokens=1)
    assert page(record.folder).tags == expected


def test_control_characters_are_seen_and_line_breaks_stay(tmp_path: Path) -> None:
    record = write_run(tmp_path)
    record.report(report(6, answers=[rollout("a\nb\x1b[31m\u202e\ud83d\x00")]))
    assert "a\nb␛[31m��␀" in page(tmp_path).text


def test_conversations_are_shown_turn_by_turn(tmp_path: Path) -> None:
    record = write_run(tmp_path)
    turns = '[{"role": "system", "content": "Be short."}, {"role": "user", "content": "3+8?"}]'
    file = record.folder / "completions" / "step-000006.jsonl"
    file.write_text(file.read_text().replace('"3+8="', turns))
    assert "system: Be short.\nuser: 3+8?" in page(tmp_path).text


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    write_run(tmp_path)
    written = page(tmp_path)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    assert ("content", policy) in written.attributes
    assert not {"script", "link", "iframe", "object", "img", "base", "form"} & set(written.tags)
    references = [value for name, value in written.attributes if name in ("src", "href", "xlink:href", "action")]
    assert all(value.startswith("#") for value in references)
    assert not any(name.startswith("on") for name, _ in written.attributes)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "@import" not in html
    assert not [target for target in re.findall(r"url\(([^)]*)\)", html) if not target.startswith("#")]


def test_figures_say_what_they_show(tmp_path: Path) -> None:
    write_run(tmp_path)
    written = page(tmp_path)
    pictures = written.attributes.count(("role", "img"))
    labels = [value for name, value in written.attributes if name == "aria-label"]
    assert pictures == written.tags.count("figure") > 3
    assert written.tags.count("svg") == pictures + 1  # the learning curve has a narrow drawing too
    assert len(labels) >= 2 * pictures
    assert ("lang", "en") in written.attributes


def test_the_same_folder_gives_the_same_page(tmp_path: Path) -> None:
    write_run(tmp_path)
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def test_a_long_answer_is_cut(tmp_path: Path) -> None:
    record = write_run(tmp_path)
    record.report(report(6, answers=[rollout("7" * 10_000)]))
    assert "… (8,400 more characters)" in page(tmp_path).text


def test_the_style_serves_phones_dark_rooms_and_paper(tmp_path: Path) -> None:
    write_run(tmp_path)
    html = write_report(tmp_path).read_text(encoding="utf-8")
    for query in ("prefers-color-scheme: dark", "@media print", "@media (max-width", 'name="viewport"'):
        assert query in html
