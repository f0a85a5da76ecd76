"""What `scoreline inspect` prints and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Scoreline = Callable[..., Result]


def test_without_a_sample_it_lists_them(scoreline: Scoreline, trained: Path) -> None:
    shown = scoreline("inspect", trained)
    assert shown.exit_code == 0, shown.output
    assert "small, step 1: grpo, beta 0.04, loss " in shown.output
    assert "mean |GC|" in shown.output
    assert len([line for line in shown.output.splitlines() if " train:" in line]) == 4
    assert "4 of the step" not in shown.output, "all four answers of the step are there"


def test_a_sample_is_a_table_of_its_tokens(scoreline: Scoreline, trained: Path) -> None:
    text = scoreline("inspect", trained, "--sample", 1).output
    facts = json.loads(scoreline("inspect", trained, "--sample", 1, "--json").output)
    assert facts["sample"]["words"] in text
    heading = next(line for line in text.splitlines() if line.startswith("t  "))
    assert {"sampler", "now", "ref", "ratio", "reward", "A", "KL", "GC", "w"} <= set(heading.split())
    rows = text.split(heading)[1].split("\n\n")[0].strip().splitlines()
    assert len(rows) == len(facts["sample"]["tokens"]) == facts["sample"]["length"]
    token = facts["sample"]["tokens"][0]
    assert token["told"]["coefficient"] == pytest.approx(token["told"]["policy"] + token["told"]["pull"])


def test_a_token_has_its_sum_written_out(scoreline: Scoreline, trained: Path) -> None:
    text = scoreline("inspect", trained, "--sample", 0, "--token", 0).output
    assert "  GC = " in text
    assert "w GC = " in text
    facts = json.loads(scoreline("inspect", trained, "--sample", 0, "--token", 0, "--json").output)
    assert [token["index"] for token in facts["sample"]["tokens"]] == [0]


def test_what_if(scoreline: Scoreline, trained: Path) -> None:
    text = scoreline("inspect", trained, "--as", "grpo").output
    assert "the same objective" in text
    assert "cosine" in text
    other = json.loads(scoreline("inspect", trained, "--as", "dr_grpo", "--weights", "--json").output)
    assert other["what_if"]["name"] == "dr_grpo"
    assert other["what_if"]["settings"]["objective.aggregate.type"] == ["SequenceMean", "FixedLength"]
    assert other["what_if"]["checkpoint"].startswith("the run's first model")
    assert "other_strength" in other["samples"][0]
    table = scoreline("inspect", trained, "--as", "dr_grpo", "--sample", 0, "--token", 0).output
    assert "under dr_grpo: A = " in table
    assert "what if:" in scoreline("inspect", trained, "objective.kl.beta=0.1", "--sample", 0).output


def test_the_page_is_written_into_the_run(scoreline: Scoreline, trained: Path) -> None:
    shown = scoreline("inspect", trained, "--sample", 2, "--as", "naive", "--html")
    assert shown.output.strip() == str(trained / "inspect.html")
    assert "Under naive" in (trained / "inspect.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sample", "77"], "There is no such sample"),
        (["--token", "1"], "A token is one of a sample"),
        (["--step", "9"], "kept no tensors of step 9"),
        (["--as", "gpro"], "did you mean 'grpo'?"),
        (["--as", "ppo"], "the run's objective has no critic"),
        (["--weights"], "Nothing is compared without another objective"),
        (["train.steps=3"], "changes the objective alone"),
    ],
)
def test_inspect_refuses(scoreline: Scoreline, trained: Path, arguments: list[str], said: str) -> None:
    result = scoreline("inspect", trained, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
