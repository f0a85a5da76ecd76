"""What comparison.json says of runs whose numbers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reports.compared import CONFIG, arm, configured, write_trial

from scoreline.errors import CheckpointError, ConfigError
from scoreline.reports import jsonl
from scoreline.reports.compare.arms import Arm, read_trial
from scoreline.reports.compare.claims import Claim
from scoreline.reports.compare.comparison import Spent, read, summarise, write
from scoreline.reports.compare.curves import band, height, late, level
from scoreline.reports.compare.page import write_comparison
from scoreline.reports.compare.settings import differing, flat, refuse_unlike
from scoreline.reports.compare.table import table

FLAT = [[0.2, 0.4, 0.4], [0.2, 0.5, 0.5]]
RISING = [[0.2, 0.5, 0.8], [0.2, 0.6, 1.0]]


def compared(
    root: Path, arms: list[Arm], claims: tuple[Claim, ...] = (), budget: Spent | None = None
) -> dict[str, Any]:
    made = summarise(root, "it", "A title", budget or Spent("tokens", 1000), [0, 1], arms, claims)
    write(root, made)
    return read(root)


def two(root: Path, claims: tuple[Claim, ...] = ()) -> dict[str, Any]:
    return compared(
        root, [arm(root, "flat", FLAT), arm(root, "rising", RISING, config=configured(algorithm="rloo"))], claims
    )


def test_curves_by_hand() -> None:
    ramp = [(0.0, 0.0), (10.0, 1.0), (20.0, 1.0)]
    assert (level(ramp), level(ramp, 5.0), level(ramp, 20.0)) == (1.0, 0.5, 1.0)
    assert (height(ramp, 10.0), height(ramp, 20.0), height(ramp, 5.0)) == (0.5, 0.75, 0.25)
    assert height([(3.0, 1.0)], 3.0) is None
    assert late([(float(i), float(i)) for i in range(20)]) == 18.5
    assert late(ramp, 5.0) == 0.0


def test_a_band_ends_where_the_shortest_curve_does() -> None:
    points = band([[(0.0, 0.0), (10.0, 1.0)], [(0.0, 0.0), (5.0, 0.5), (20.0, 2.0)]])
    assert points[0] == [0.0, 0.0, 0.0, 0.0, 2]
    assert points[-1][0] == 10.0
    assert points[-1][1] == pytest.approx(1.0)
    assert band([[(0.0, 0.5), (4.0, 1.0)]])[-1] == [4.0, 1.0, None, None, 1]


def test_measures_are_those_of_the_runs(tmp_path: Path) -> None:
    found = two(tmp_path)
    flat_arm, rising = found["arms"]
    assert rising["measures"]["final"]["values"] == [0.8, 1.0]
    assert rising["measures"]["final"]["mean"] == pytest.approx(0.9)
    assert rising["measures"]["area"]["values"] == pytest.approx([(0.35 + 0.65) / 2, (0.4 + 0.8) / 2])
    assert flat_arm["measures"]["before"]["values"] == [0.2, 0.2]
    assert flat_arm["measures"]["drop"]["values"] == [0.0, 0.0]
    assert flat_arm["measures"]["entropy"]["mean"] == pytest.approx(0.1)
    assert flat_arm["measures"]["parameters"]["mean"] == 7
    assert flat_arm["measures"]["clip"]["mean"] == pytest.approx(0.1)
    assert "judged" not in flat_arm["measures"], "an absent measure is absent"
    assert "noise" not in flat_arm["measures"]
    assert flat_arm["runs"][1] == {
        "seed": 1,
        "folder": "runs/flat-1",
        "steps": 10,
        "tokens": 1000,
        "seconds": 9.0,
        "failed": None,
    }
    assert rising["curves"]["accuracy"]["x"] == "tokens"
    assert rising["curves"]["accuracy"]["points"][-1][:2] == pytest.approx([1000.0, 0.9])
    assert found["measure"] == "avg@4"
    assert found["same"]["evaluation"] == "3 held-out prompts, 4 answers each, right by arithmetic_answer"


def test_differences_are_paired_and_settings_told(tmp_path: Path) -> None:
    found = two(tmp_path)
    [final] = [pair for pair in found["pairs"] if pair["measure"] == "final"]
    assert (final["arm"], final["against"]) == ("rising", "flat")
    assert final["difference"]["values"] == pytest.approx([0.4, 0.5])
    assert found["settings"] == [{"key": "algorithm", "values": {"flat": "grpo", "rising": "rloo"}}]


def test_claims_are_about_arms_or_about_the_start(tmp_path: Path) -> None:
    claims = (
        Claim("rising ends higher", "rising", margin=0.1),
        Claim("flat beats rising", "flat", "rising"),
        Claim("rising learns", "rising", "start"),
        Claim("nobody was judged", "rising", measure="judged"),
    )
    told = two(tmp_path, claims)
    assert [claim["verdict"] for claim in told["claims"]] == ["undecided", "undecided", "undecided", "undecided"]
    assert [claim["against"] for claim in told["claims"]] == ["flat", "rising", "start", "flat"]
    assert told["claims"][2]["difference"]["values"] == pytest.approx([0.6, 0.8])
    assert "difference" not in told["claims"][3]
    against = {(pair["arm"], pair["against"]) for pair in told["pairs"]}
    assert against >= {("flat", "rising"), ("rising", "start")}


def test_a_clear_claim_is_decided(tmp_path: Path) -> None:
    many = [[0.2, 0.4, 0.5 + 0.01 * seed] for seed in range(5)]
    better = [[0.2, 0.4, 0.7 + 0.01 * seed] for seed in range(5)]
    arms = [arm(tmp_path, "a", many), arm(tmp_path, "b", better, config=configured(algorithm="rloo"))]
    claims = (Claim("b is better", "b"), Claim("b is worse", "b", expects="less"))
    assert [claim["verdict"] for claim in compared(tmp_path, arms, claims)["claims"]] == ["supported", "refuted"]


def test_runs_that_are_there_are_compared_at_equal_tokens(tmp_path: Path) -> None:
    """The second arm sampled twice as many tokens a step: it is read halfway."""
    short, long = arm(tmp_path, "short", FLAT), arm(tmp_path, "long", RISING, tokens=200)
    found = compared(tmp_path, [short, long], budget=Spent("tokens", cut=True))
    assert found["budget"] == {"kind": "tokens", "amount": 1000}
    assert found["arms"][1]["measures"]["final"]["values"] == pytest.approx([0.5, 0.6])
    assert found["arms"][0]["measures"]["final"]["values"] == pytest.approx([0.4, 0.5])


def test_who_was_hard_is_said_by_the_other_seeds(tmp_path: Path) -> None:
    """Seed 1 says that question 0 is hard and 2 easy; seed 0 had other luck. Question 0 gains 3 of 4 for seed 0."""
    config = {**CONFIG}
    write_trial(tmp_path / "runs/a-0", [0.5, 0.9], config=config, rights=[(1, 2, 0), (4, 3, 4)])
    write_trial(tmp_path / "runs/a-1", [0.5, 0.9], config={**config, "seed": 1}, rights=[(0, 2, 4), (0, 4, 4)])
    trials = tuple(read_trial(tmp_path / f"runs/a-{seed}", seed) for seed in (0, 1))
    found = compared(tmp_path, [Arm("a", "a", config, trials)])
    measures = found["arms"][0]["measures"]
    assert measures["gain_hard"]["values"] == pytest.approx([0.75, 0.0])  # for seed 1, seed 0 says 2 is the hard one
    assert measures["gain_middle"]["values"] == pytest.approx([0.25, 0.0])
    assert measures["gain_easy"]["values"] == pytest.approx([1.0, 0.5])


def test_a_probe_is_read_where_there_is_one(tmp_path: Path) -> None:
    arms = [arm(tmp_path, "a", FLAT), arm(tmp_path, "b", RISING, config=configured(algorithm="rloo"))]
    times = {"against": "naive", "variance": {"times": 0.25}}
    said = {"noise": {"naive": {"ratio": 9.0}, "own": {"ratio": 4.0, "times": times}}, "kl": {"token": 0.5}}
    (tmp_path / "runs/a-0/probe.json").write_text(json.dumps(said))
    measures = compared(tmp_path, arms)["arms"][0]["measures"]
    assert measures["noise"]["values"] == [4.0, None]
    assert measures["noise/naive"]["values"] == [9.0, None]
    assert measures["variance_times"]["values"] == [0.25, None]
    assert measures["kl"]["values"][0] == 0.5


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("gone", "not run yet"),
        ("torn", "broken"),
        ("unfinished", "not finished"),
        ("holes", "lacks 1 steps"),
        ("probe", "not a JSON object"),
    ],
)
def test_a_run_that_cannot_be_read_is_left_out_and_said(tmp_path: Path, fault: str, said: str) -> None:
    whole = arm(tmp_path, "a", FLAT)
    folder = tmp_path / "runs/b-0"
    write_trial(folder, [0.2, 0.9], finished=fault != "unfinished")
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    if fault == "torn":
        metrics.write_text("".join([lines[0], '{"step": 2, "rew\n', *lines[2:]]))
    if fault == "holes":
        metrics.write_text("".join([lines[0], *lines[2:]]))
    if fault == "probe":
        (folder / "probe.json").write_text("{")
    trial = read_trial(tmp_path / "nowhere" if fault == "gone" else folder, 0)
    found = compared(tmp_path, [whole, Arm("b", "b", CONFIG, (trial, read_trial(tmp_path / "never", 1)))])
    assert said in found["arms"][1]["runs"][0]["failed"]
    assert found["arms"][1]["measures"] == {}
    assert found["arms"][1]["curves"] == {}
    assert said in table(found)


def test_nan_is_not_a_measure(tmp_path: Path) -> None:
    found = compared(tmp_path, [arm(tmp_path, "a", FLAT, kl=float("nan"))])
    assert "kl" not in found["arms"][0]["measures"]
    assert "kl" not in found["arms"][0]["curves"]


def test_the_table_and_the_page_show_what_was_found(tmp_path: Path) -> None:
    found = two(tmp_path, (Claim("<b>rising</b> learns", "rising", "start"),))
    text = table(found)
    assert "A title\ntiny on arithmetic, level 1: 3 held-out prompts" in text
    assert "rising  0.900 [-0.371, 2.171]" in text, "0.9 -+ 12.706 x 0.1: with two seeds Student's is the wider one"
    assert "+0.450 [-0.185, +1.085]" in text
    assert "undecided   <b>rising</b> learns" in text
    page = write_comparison(tmp_path).read_text(encoding="utf-8")
    assert "&lt;b&gt;rising" in page
    assert "<b>rising" not in page
    assert "<script" not in page


def test_settings_have_addresses() -> None:
    assert flat({"a": {"b": 1, "c": []}, "d": [{"e": 2}], "f": [3, 4], "g": {}}) == {
        "a.b": 1,
        "a.c": [],
        "d.0.e": 2,
        "f": [3, 4],
        "g": {},
    }
    rows = differing({"x": {"name": "x", "a": 1, "b": 1}, "y": {"name": "y", "a": 1.5}})
    assert rows == [{"key": "a", "values": {"x": 1, "y": 1.5}}, {"key": "b", "values": {"x": 1, "y": None}}]


@pytest.mark.parametrize(
    ("table_name", "told", "key"),
    [
        ("data", {"level": 2}, "data.level"),
        ("eval", {"k": 8}, "eval.k"),
        ("model", {"path": "other"}, "model.path"),
        ("sampling", {"temperature": 0.5}, "sampling.temperature"),
        ("reward", [{"function": "last_number", "weight": 1.0}], "eval.reward.0.function"),
    ],
)
def test_arms_that_are_not_measured_alike_are_refused(table_name: str, told: Any, key: str) -> None:
    configs = {"a": CONFIG, "b": configured(**{table_name: told})}
    with pytest.raises(ConfigError, match=rf"cannot be compared[\s\S]*{key}[\s\S]*allow"):
        refuse_unlike(configs)
    refuse_unlike(configs, [key])
    refuse_unlike(configs, [key.split(".")[0]])


def test_another_judge_is_fine_where_the_truth_is_the_same() -> None:
    truth = [{"function": "arithmetic_answer", "weight": 1.0}]
    one = configured(eval={"reward": truth})
    refuse_unlike({"a": one, "b": {**one, "reward": [{"function": "judge", "weight": 1.0}]}})
    refuse_unlike({"a": one, "b": {**one, "model": {"path": "tiny", "precision": "bf16"}}})


def test_a_folder_without_a_comparison_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a comparison"):
        read(tmp_path)
    (tmp_path / "comparison.json").write_text("[1")
    with pytest.raises(CheckpointError, match="not a JSON object"):
        read(tmp_path)


def test_the_last_row_of_a_growing_file(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert jsonl.last(file) is None
    file.write_text('{"step": 1}\n{"step": 2}\n{"st', encoding="utf-8")
    assert jsonl.last(file) == {"step": 2}
    assert jsonl.last(file, longest=8) is None, "the row begins before what is read"
    file.write_text("", encoding="utf-8")
    assert jsonl.last(file) is None
