"""`comparison.html`: one self-contained page about a comparison. No scripts, nothing loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

from scoreline.errors import CheckpointError
from scoreline.reports import jsonl
from scoreline.reports.compare.shown.claims import judgements
from scoreline.reports.compare.shown.forest import forests
from scoreline.reports.compare.shown.grids import LinkTo, arms_table, failures, runs_table, settings_table
from scoreline.reports.compare.shown.naming import Comparison, meanings, title
from scoreline.reports.compare.shown.pictures import MAIN, Stroke, draw_arms, stroke
from scoreline.reports.compare.shown.sentences import facts, headline
from scoreline.reports.frame import Frame, framed

RESULT = "comparison.json"

OPEN = 2
"""Measures whose differences are seen at once; those of the others open with a click."""


def write_comparison(folder: Path) -> Path:
    """Writes `comparison.html` beside a folder's `comparison.json`, and returns its path.

    Raises `CheckpointError` if there is no comparison, or its file is broken, or the page cannot be written.
    """
    comparison = read_comparison(folder)
    page = folder / "comparison.html"
    jsonl.replace(page, render_comparison(comparison, lambda run: report_of(folder, run)))
    return page


def is_comparison(folder: Path) -> bool:
    """Whether a folder holds a comparison, finished or not, rather than a run."""
    return any((folder / name).is_file() for name in (RESULT, "comparison.toml"))


def read_comparison(folder: Path) -> Comparison:
    """What `scoreline compare` found."""
    path = folder / RESULT
    if not path.is_file():
        todo = "scoreline compare goes on where it stopped, and writes it at the end"
        raise CheckpointError(f"{folder} has no result yet", got=f"no {RESULT}", todo=todo)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _broken(path, error) from error
    arms = found.get("arms") if isinstance(found, dict) else None
    if not isinstance(arms, list) or not all(isinstance(arm, dict) and "name" in arm for arm in arms):
        raise _broken(path, "no list of arms, each with a name")
    return dict(found)


def _broken(path: Path, got: object) -> CheckpointError:
    todo = "delete it and run scoreline compare again: finished runs are kept"
    return CheckpointError(f"{path} is no comparison", got=got, accepted="one JSON object", todo=todo)


def report_of(folder: Path, run: str) -> str:
    """The address of a run's report, relative to the comparison's folder; "" where there is none."""
    there = folder / run
    if not (there / "report.html").is_file():
        return ""
    relative = Path(os.path.relpath(there.resolve(), folder.resolve())).as_posix()
    return f"./{quote(relative)}/report.html"


def render_comparison(comparison: Comparison, link: LinkTo = lambda run: "") -> str:
    """The page as text. The same comparison gives the same page."""
    curves, grown = draw_arms(comparison), forests(comparison)
    name = str(comparison.get("title") or comparison.get("name") or "comparison")
    return framed(
        "comparison.html.j2",
        Frame(name, f"Scoreline · comparison · {name}", headline(comparison), facts(comparison)),
        claims=judgements(comparison),
        main=[curve for curve in curves if curve.name == MAIN],
        others=[curve for curve in curves if curve.name != MAIN],
        legend=_legend(comparison),
        arms=arms_table(comparison),
        meanings=meanings(comparison),
        forests=grown[:OPEN],
        more_forests=grown[OPEN:],
        settings=settings_table(comparison),
        runs=runs_table(comparison, link),
        failures=failures(comparison),
        environment=comparison.get("environment") or {},
    )


def _legend(comparison: Comparison) -> list[tuple[Stroke, str, str]]:
    """How each arm is drawn, what it is called, and its formula."""
    return [(stroke(i), title(arm), str(arm.get("formula") or "")) for i, arm in enumerate(comparison["arms"])]
