"""docs/scaling.md is what the files in docs/results/scaling/ make; the command, in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import scaling
import scaling_page
from lawful_runs import lawful
from scaling_sweep import SMOKE, STUDIES, Scale, cluster, expected, tuned
from scaling_tables import TABLES, grid, number

RUN = {"learners": 2, "rollouts": 2, "shared": False, "max_staleness": 1, "questions": 8, "steps": 19}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page and its files somewhere else."""
    monkeypatch.setattr(scaling_page, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(scaling, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(scaling_page, "PAGE", tmp_path / "docs/scaling.md")
    monkeypatch.setattr(scaling_page, "PICTURES", tmp_path / "docs/images/scaling")
    return tmp_path


def test_the_committed_page_is_made_of_the_committed_results() -> None:
    assert scaling_page.PAGE.read_text(encoding="utf-8") == scaling_page.page(scaling_page.load()), "make it again"


def test_every_study_has_a_heading_a_table_and_a_result() -> None:
    assert list(STUDIES) == list(TABLES) == list(scaling_page.HEADINGS)
    assert STUDIES.keys() <= scaling_page.load().keys()


def test_the_committed_rates_are_the_ones_in_the_code() -> None:
    file = scaling_page.RESULTS / "rates.json"
    assert json.loads(file.read_text(encoding="utf-8")) == json.loads(scaling.lines(scaling.rounded(scaling.stated())))


def test_all_studies_in_small_make_the_whole_page(places: Path) -> None:
    for name, study in STUDIES.items():
        scaling.write(f"{name}.json", {"rows": study(SMOKE)})
    scaling.write("rates.json", scaling.stated())
    (places / "results/tails.md").write_text("What was seen.\n", encoding="utf-8")
    scaling_page.write_page()
    page = (places / "docs/scaling.md").read_text(encoding="utf-8")
    assert all(f"## {heading}\n" in page for heading in scaling_page.HEADINGS.values())
    assert "## Long tails\n\nWhat was seen.\n" in page
    assert "Not compared with real runs yet." in page
    assert page == scaling_page.page(scaling_page.load())
    for name in ("scaling", "splitting", "tails"):
        assert f"](images/scaling/{name}.svg)" in page
        assert (places / f"docs/images/scaling/{name}.svg").read_text(encoding="utf-8").startswith("<svg ")


def test_runs_are_measured_and_checked_by_the_command(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(lawful(places / f"run-{n}", n)) for n in (4, 16, 8)]
    file = str(places / "cpu.json")
    scaling.main(["--measure", *runs[:2], "--check", runs[2], "--rates", file])
    (row,) = json.loads((places / "results/check-local.json").read_text(encoding="utf-8"))["rows"]
    assert abs(row["error"]) < 0.02
    assert "run-8" in capsys.readouterr().out
    assert "| `run-8` | one process |" in (places / "docs/scaling.md").read_text(encoding="utf-8")


def test_rates_need_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scaling.main(["--check", "somewhere"])
    assert "--rates FILE" in capsys.readouterr().err


def test_a_real_run_stands_beside_the_models() -> None:
    row = RUN | {"run": "ray", "real": 2.0, "model": 1.5, "error": -0.25}
    page = scaling_page.checked(
        "check-ray", {"rows": [row], "rates": {"learn": {"value": 1, "source": "measured: one"}}}
    )
    assert "| `ray` | 2 | 2 | 1 | 8 | 19 | 2.00 | 1.50 | -25 % |" in page
    assert "Rates measured: one." in page


def test_the_same_study_twice_is_the_same() -> None:
    assert STUDIES["scoring"](SMOKE) == STUDIES["scoring"](SMOKE)


def test_the_best_split_is_no_worse_than_another() -> None:
    work, rates = SMOKE.work, scaling.rates_of(scaling.SMALL, SMOKE.work)
    best, halves = (tuned(8, shares, 1, work, rates, SMOKE) for shares in ((0.25, 0.5), (0.5,)))
    assert best is not None
    assert halves is not None
    assert best["tokens_per_second"] >= halves["tokens_per_second"]
    assert best["learners"] + best["rollouts"] == 8
    assert cluster(1, 0.5, 0, work) is None, "one device cannot be split"


def test_failures_cost_what_is_made_again() -> None:
    rates = scaling.rates_of(scaling.SMALL, Scale().work)
    made = cluster(64, 0.25, 0, Scale().work)
    assert made is not None
    calm = [{"hours": float("inf"), "seconds_per_step": 100.0}]
    assert expected(made, rates, calm, float("inf")) == 0
    assert expected(made, rates, calm, 1.0) == pytest.approx(16 * 600 / (rates.mtbf + 16 * 600))


def test_a_grid_has_a_column_for_each_value() -> None:
    rows = [{"a": 1, "b": 2.5, "x": 7}, {"a": 2, "b": 2.5, "x": 8}]
    assert grid(rows, "a", ["b"], lambda row: str(row["x"]), "a {}").splitlines() == [
        "| b | a 1 | a 2 |",
        "| --: | --: | --: |",
        "| 2.5 | 7 | 8 |",
    ]
    assert [number(value) for value in (None, "inf", 12345.6, 0.12345, 3)] == [
        "all of a worker's",
        "never",
        "12,346",
        "0.123",
        "3",
    ]
