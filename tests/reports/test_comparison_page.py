from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from reports.comparing import ARMS, MORE, claim, comparison, pair, taken, write_comparison_file
from reports.reading import Page

from scoreline.errors import CheckpointError
from scoreline.reports.compare.page import render_comparison, report_of, write_comparison

HOSTILE = '</td><script>alert(1)</script><a href="javascript:alert(1)">x</a>{{ 7 * 191 }}'


def text_of(found: dict[str, Any]) -> str:
    return " ".join(Page(render_comparison(found)).text.split())


def headline(found: dict[str, Any]) -> str:
    (inside,) = re.findall(r"<h1>(.*?)</h1>", render_comparison(found), re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", "", inside.replace("&nbsp;", " ")).split())


def two(*differences: float | None) -> dict[str, Any]:
    """REINFORCE and GRPO, with these differences in final accuracy."""
    found = comparison(arms={name: ARMS[name] for name in ("naive", "grpo")})
    return found | {"pairs": [pair("grpo", "naive", "final", differences)], "claims": []}


def test_the_page_lies_beside_the_comparison(tmp_path: Path) -> None:
    folder = write_comparison_file(tmp_path, comparison(curves=True))
    assert write_comparison(folder) == tmp_path / "comparison.html"
    first = (tmp_path / "comparison.html").read_bytes()
    assert write_comparison(folder).read_bytes() == first


def test_everything_is_on_the_page() -> None:
    text = text_of(comparison(curves=True))
    for part in ("Every measure", "Paired differences", "What was claimed", "What differs", "The runs", "The machine"):
        assert part in text
    for part in ("final accuracy", "gradient noise", "objective.kl.beta", "Distance to the reference", "200,431"):
        assert part in text
    for title, *_ in ARMS.values():
        assert title in text


@pytest.mark.parametrize(
    ("differences", "sentence"),
    [
        ([0.1, 0.12, 0.14], "At 200,000 sampled tokens, GRPO ended above REINFORCE by 0.120 [0.070 – 0.170]."),
        ([-0.1, -0.12, -0.14], "At 200,000 sampled tokens, GRPO ended below REINFORCE by 0.120 [0.070 – 0.170]."),
        (
            [0.1, -0.1, 0.05],
            "At 200,000 sampled tokens, no clear difference in final accuracy between REINFORCE and GRPO.",
        ),
        (
            [0.3, None, None],
            "At 200,000 sampled tokens, REINFORCE and GRPO have one seed in common: too few to tell them apart.",
        ),
        ([None, None], "At 200,000 sampled tokens, the final accuracies of REINFORCE and GRPO are not known."),
    ],
)
def test_the_headline_says_what_came_out(differences: list[float | None], sentence: str) -> None:
    assert headline(two(*differences)) == sentence


def test_the_headline_takes_the_wider_interval() -> None:
    found = two(0.1, 0.12, 0.14)
    found["pairs"][0]["difference"] |= {"t_low": -0.01, "t_high": 0.25}
    assert "no clear difference" in headline(found)
    found["pairs"][0]["difference"] |= {"t_low": None, "t_high": None}
    assert "GRPO ended above REINFORCE" in headline(found)


def test_the_headline_orders_the_arms_and_names_those_without_a_clear_difference() -> None:
    found = comparison(arms=ARMS | MORE)
    sides = {"critic": 0.0, "ppo": 0.1, "grpo": 0.2, "grpo-far": -0.3, "rloo": 0.15, "dapo": 0.12, "dr": 0.0}
    spread = (-0.01, 0.0, 0.01)
    found["pairs"] = [pair(name, "naive", "final", [by + d for d in spread]) for name, by in sides.items()]
    sentence = re.sub(r" \[[^]]*\]", "", headline(found))
    assert sentence == (
        "At 200,000 sampled tokens, GRPO ended above REINFORCE by 0.200, RLOO by 0.150 and 2 more; GRPO, "
        "learning rate x 10 ended below it by 0.300; for Actor and critic and Dr. GRPO the difference is not clear."
    )


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"kind": "steps", "amount": 60}, "After 60 steps,"),
        ({"kind": "seconds", "amount": 90.0}, "After 90 seconds,"),
        (None, "At the end,"),
    ],
)
def test_the_headline_names_the_budget(budget: Any, words: str) -> None:
    assert headline(two(0.1, 0.2) | {"budget": budget}).startswith(words)


def test_one_arm_and_no_arm() -> None:
    one = comparison(arms={"grpo": ARMS["grpo"]}) | {"claims": []}
    assert re.fullmatch(r"At 200,000 sampled tokens, GRPO ended at 0\.9\d+ \[0\.9\d* – 0\.9\d*\]\.", headline(one))
    assert headline(comparison() | {"arms": [], "pairs": [], "claims": [], "settings": []}) == "Nothing was compared."


def test_measures_that_are_missing_leave_a_dash_or_no_column() -> None:
    found = comparison(curves=True)
    assert "judged reward" not in text_of(found)
    found["arms"][0]["measures"] = {"final": taken([None] * 5)}
    found["arms"][1]["measures"]["oddly_named"] = taken([1.0, 2.0])
    del found["arms"][2]["curves"]
    found["arms"][3]["curves"]["kl"]["points"] = [[0, None, None, None, 0], [1, math.nan, 0, 1, 2]]
    text = text_of(found)
    assert "oddly named" in text
    assert "–" in text


def test_a_comparison_with_hardly_anything() -> None:
    bare = {"name": "bare", "arms": [{"name": "a"}, {"name": "b"}]}
    assert "the final accuracies of a and b are not known" in headline(bare)
    tags = Page(render_comparison(bare)).tags
    assert "section" not in tags


def test_claims_are_shown_with_verdict_difference_and_reason() -> None:
    found = two(0.1, 0.2)
    found["claims"] = [
        claim(
            "The group helps.", "grpo", "naive", "supported", [0.1, 0.12], margin=0.05, why="the interval lies above"
        ),
        claim("They are alike.", "grpo", "naive", "refuted", [0.3, 0.32], expects="same", margin=0.1),
        claim("Nobody knows.", "grpo", "nobody", "undecided", []),
    ]
    text = text_of(found)
    for part in ("The group helps.", "supported", "more, by over 0.05", "the interval lies above"):
        assert part in text
    for part in ("refuted", "the same, within ±0.1", "undecided", "GRPO minus nobody", "1 supported, 1 refuted"):
        assert part in text


def test_a_failed_run_says_why_and_others_lead_to_their_reports(tmp_path: Path) -> None:
    found = comparison(seeds=2)
    found["arms"][0]["runs"][1] |= {"failed": "DivergenceError: loss is not finite", "steps": 3}
    folder = write_comparison_file(tmp_path, found)
    run = folder / "runs" / "naive-0"
    run.mkdir(parents=True)
    (run / "report.html").write_text("a report")
    html = write_comparison(folder).read_text(encoding="utf-8")
    assert "DivergenceError: loss is not finite" in html
    assert re.findall(r'href="([^"#]*)"', html) == ["./runs/naive-0/report.html"]
    assert "9 of 10 finished" in html


def test_a_folder_name_is_no_address_of_its_own(tmp_path: Path) -> None:
    odd = tmp_path / "javascript:alert(1)"
    odd.mkdir()
    (odd / "report.html").write_text("")
    assert report_of(tmp_path, odd.name) == "./javascript%3Aalert%281%29/report.html"
    assert report_of(tmp_path / "runs", str(odd)) == "./../javascript%3Aalert%281%29/report.html"
    assert report_of(tmp_path, "nowhere") == ""


def test_names_and_reasons_are_text_never_markup() -> None:
    plain, hostile = comparison(curves=True), comparison(curves=True)
    arm = hostile["arms"][1]
    arm |= {"title": HOSTILE, "algorithm": HOSTILE, "formula": HOSTILE}
    arm["runs"][0] |= {"folder": HOSTILE}
    hostile |= {"title": HOSTILE, "measure": HOSTILE, "same": {"model": HOSTILE}}
    hostile["settings"][0]["key"] = HOSTILE
    hostile["settings"][0]["values"]["ppo"] = HOSTILE
    hostile["claims"][0] |= {"text": HOSTILE, "why": HOSTILE, "verdict": HOSTILE}
    plain["claims"][0] |= {"why": "because"}
    kinds = [set(Page(render_comparison(found)).tags) for found in (plain, hostile)]
    assert kinds[0] == kinds[1]
    assert "a" not in kinds[1]
    assert HOSTILE in Page(render_comparison(hostile)).text


@pytest.mark.parametrize("content", ["{", "[]", '{"arms": 3}', '{"arms": [{"title": "no name"}]}', '{"arms": [1]}'])
def test_a_broken_file_is_an_error_that_says_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(CheckpointError, match="is no comparison"):
        write_comparison(tmp_path)
    assert not (tmp_path / "comparison.html").exists()


def test_a_comparison_without_a_result_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="scoreline compare goes on"):
        write_comparison(tmp_path)


def test_every_drawing_has_names_of_its_own() -> None:
    ids = re.findall(r' id="([^"]+)"', render_comparison(comparison(arms=ARMS | MORE, curves=True)))
    assert len(ids) == len(set(ids)) > 3


def test_a_file_from_json_gives_the_same_page() -> None:
    found = comparison()
    assert render_comparison(json.loads(json.dumps(found))) == render_comparison(found)


def test_a_difference_in_the_start_is_not_drawn() -> None:
    found = two(0.1, 0.2)
    found["pairs"].append(pair("grpo", "naive", "before", [0.0, 0.0]))
    text = text_of(found)
    assert "Paired differences" in text
    assert "accuracy before training" not in text


def test_numbers_of_one_scale_have_as_many_decimals() -> None:
    found = two(0.1, 0.2)
    found["pairs"].append(pair("grpo", "naive", "seconds_per_step", [2.0, 4.0]))
    found["pairs"].append(pair("naive", "grpo", "seconds_per_step", [0.25, 0.125]))
    text = text_of(found)
    assert "+3.0[" in text
    assert "+0.2[" in text
