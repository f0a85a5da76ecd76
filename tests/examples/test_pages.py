"""What the pages of docs/ say: tables load, commands and files exist, links lead on."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scoreline.cli import app
from scoreline.cli.app import split
from scoreline.config.judge import JudgeRun
from scoreline.config.label import LabelRun
from scoreline.config.load import load
from scoreline.config.run import Run, SftRun

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    DOCS / "steps.md",
    DOCS / "lora.md",
    DOCS / "reports.md",
    DOCS / "cluster.md",
    DOCS / "equations.md",
    *sorted((DOCS / "algorithms").glob("*.md")),
]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
TABLES = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"^```toml\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S))
]
COMMANDS = sorted(
    {
        command.strip()
        for page in PAGES
        for command in re.findall(
            r"(?:^|`)(scoreline [\w-]+ recipes/[^`#\n]+)", page.read_text("utf-8").replace("\\\n", " "), re.M
        )
    }
)
SCHEMAS = {"sft": SftRun, "label": LabelRun, "reward-model": JudgeRun}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_loads(table, tmp_path):
    (tmp_path / "page.toml").write_text(table, encoding="utf-8")
    load(Run, [tmp_path / "page.toml"])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_can_be_typed(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    _, verb, *arguments = shlex.split(command)
    assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0
    load(SCHEMAS.get(verb, Run), *split(arguments))


def test_tables_and_commands_are_found():
    assert len(TABLES) >= 4
    assert {command.split()[1] for command in COMMANDS} >= {"train", "label", "reward-model"}


@EACH_PAGE
def test_files_that_are_named_exist(page):
    text = page.read_text("utf-8")
    known = {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    assert [name for name in re.findall(r"\b(test_\w+\.py)", text) if name not in known] == []
    assert [path for path in re.findall(r"(?:examples|recipes)/[\w/]+\.\w+", text) if not (ROOT / path).exists()] == []
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


@EACH_PAGE
def test_functions_that_are_named_exist(page):
    # A function, a class, or a field.
    sources = "\n".join(file.read_text("utf-8") for file in (ROOT / "src").rglob("*.py"))
    rows = [row for row in page.read_text("utf-8").splitlines() if row.startswith("| functions |")]
    names = [name.split(".")[-1] for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert [name for name in names if not re.search(rf"(?:class |def |    ){name}\b", sources)] == []
