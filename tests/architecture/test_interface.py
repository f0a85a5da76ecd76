"""The Python interface: every name that `scoreline` offers is there, and the README's program runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import scoreline

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(scoreline._HOMES))
def test_every_name_is_there(name: str) -> None:
    assert getattr(scoreline, name) is not None
    assert name in dir(scoreline)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'gpro'"):
        scoreline.gpro  # noqa: B018


def test_the_program_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    program = tmp_path / "program.py"
    program.write_text(blocks[0].replace("steps=20, prompts_per_step=32", "steps=1, prompts_per_step=2"))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(program))
    assert (tmp_path / "runs/wider/report.html").exists()
