"""docs/scaling.md from docs/results/scaling/: `python benchmarks/scaling_page.py`.

NAME.json is what `scaling.py` found, NAME.md beside it what a person says of it; both are taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling_fit import foretold
from scaling_pictures import draw
from scaling_tables import TABLES, Row, number, table
from scaling_tables import parts as parts_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE, PICTURES = ROOT / "docs/results/scaling", ROOT / "docs/scaling.md", ROOT / "docs/images/scaling"

Files = Mapping[str, Mapping[str, Any]]

INTRODUCTION = """# Past these machines

What would the same recipe do on 8, 64 or 1,024 GPUs, how stale would its answers be, and what would stand in its way?
This page answers with a model. **No number on it was measured on a GPU.** What was measured are real runs on a CPU, to
see how far off the model is.

`python benchmarks/scaling.py` makes all of it again (minutes); `benchmarks/README.md` has its other uses. Every number
is in `docs/results/scaling/`.
"""

MODEL = """## The model

Processes that wait for one another, by [SimPy](https://simpy.readthedocs.io), as a run on a cluster has them:

* The controller opens the units (whole questions) of every step up to the version of the weights plus `max_staleness`,
  waits until the next step's units are all there, scores them, lets the learners annotate and update, and publishes the
  weights. Steps take their answers in the order of the data.
* A worker takes the newest weights, then the next unit, and decodes. A decoding step takes a time of its own and a time
  for each row in flight, so a unit's last long answers are sampled at a bad rate. Nothing else is taken before the unit
  is whole, as Scoreline's workers do it by default; with `at_once` above 1 a worker takes further units.
* Learners get whole groups, the largest to whoever has least; an update is as slow as its busiest rank, and exchanges
  weights and gradients in every micro-batch: two gathers and a scatter a layer, of which each takes a time of its own,
  hops around a ring, and its bytes. On GPUs that goes on behind computing; on this CPU it does not.
* The loop takes its time between the last answer and the first update, and for each call of the learners.
* Processes that share cores take turns, slow one another down, and wait for a core in the middle of an exchange.
* Weights are put together by the learners and travel along a ring or a tree; with staleness, during the next step.
* A worker that fails loses its unit, which others sample; a learner that fails takes all back to the last checkpoint.

Answer lengths are lognormal, cut at a budget, and drawn by seed and step alone: all clusters answer with the same ones.

Left out: traffic on shared links, memory that runs out, the loop's own process (but for its section), sums of gradients
in fp64, questions whose answers are all long, lengths that change while the policy learns, and whether a stale policy
learns as well.

A point is {steps} of one seed, behind a
warm-up; the best split is the best among {splits} and four sizes of units.
"""

STEPS = "16 steps (8 where steps grow with the devices, 600 with failures)"
CHECK = "check-"
"""What the names of files of checks begin with."""

HEADINGS = {
    "scaling": "More devices",
    "filling": "Full workers",
    "splitting": "The split",
    "units": "Units",
    "tails": "Long tails",
    "transfer": "Weights on their way",
    "failures": "Failures",
    "growing": "Steps that grow with the devices",
    "scoring": "Rewards",
    "loop": "The loop's own process",
}
"""The studies, each with its heading, in the order of the page."""


def load() -> dict[str, Any]:
    """Every result file, by name."""
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))}


def page(files: Files) -> str:
    """What it is, what it says, how it was checked, then one section a study, then the rates."""
    told = MODEL.format(steps=STEPS, splits="eight shares of learners")
    parts = [INTRODUCTION, *notes("summary"), told, "## How far off it is\n", *notes("check")]
    checks = {name: files[name] for name in files if name.startswith(CHECK)}
    parts += [checked(name, found) for name, found in checks.items()] or ["Not compared with real runs yet.\n"]
    parts += [foretold_parts(files["parts"])] if "parts" in files else []
    parts += [section(name, shown(name, files)) for name in HEADINGS if name in files]
    parts += [rates(files["rates"])] if "rates" in files else []
    return "\n".join(parts)


def shown(name: str, files: Files) -> list[Row]:
    """The rows of a study; full workers stand beside those of the same size that take one unit at a time."""
    rows: list[Row] = files[name]["rows"]
    if name != "filling":
        return rows
    wanted = {(row["devices"], row["max_staleness"]) for row in rows}
    alone = [row for row in files["scaling"]["rows"] if not row["shared"]]
    both = [*(row for row in alone if (row["devices"], row["max_staleness"]) in wanted), *rows]
    return sorted(both, key=lambda row: (row["devices"], row["at_once"], row["max_staleness"]))


def notes(name: str) -> list[str]:
    """What a person says."""
    file = RESULTS / f"{name}.md"
    return [file.read_text(encoding="utf-8")] if file.is_file() else []


def section(name: str, rows: Sequence[Row]) -> str:
    """Heading, what a person says of it, the picture, the tables."""
    picture = f"![{HEADINGS[name]}]({PICTURES.relative_to(PAGE.parent).as_posix()}/{name}.svg)\n"
    shown = [picture] if draw(name, rows) else []
    return "\n".join([f"## {HEADINGS[name]}\n", *notes(name), *shown, TABLES[name](rows)])


def checked(name: str, found: Mapping[str, Any]) -> str:
    """Real runs beside the model's, and the runs whose rates it had."""
    head = ["run", "learners", "workers", "staleness", "questions", "steps", "s a step, real", "model", "off by"]
    lines = [
        [f"`{r['run']}`", "one process" if r["shared"] else number(r["learners"])]
        + ["" if r["shared"] else number(r["rollouts"])]
        + [number(r[name]) for name in ("max_staleness", "questions", "steps")]
        + [f"{r['real']:.2f}", f"{r['model']:.2f}", f"{100 * r['error']:+.0f} %"]
        for r in found["rows"]
    ]
    source = next(iter(found["rates"].values()))["source"]
    return "\n".join([*notes(name), f"Rates {source}.\n", table(head, lines)])


def foretold_parts(rows: Any) -> str:
    """Parts of two learners beside the fit, as far as it did not see them."""
    unseen = [row for row in foretold(rows) if not row["seen"]]
    return "\n".join([*notes("parts"), parts_table(unseen)])


def rates(found: Mapping[str, Any]) -> str:
    """Every rate, its value for each model, and where it is from."""
    models = list(found["rates"])
    first = found["rates"][models[0]]
    lines = [
        [f"`{name}`", *(number(found["rates"][model][name]["value"]) for model in models), first[name]["source"]]
        for name in first
    ]
    head = ["rate", *models, "source (of the first)"]
    told = "Seconds, bytes, bytes a second or counts, see `benchmarks/scaling_model.py`. No assumption was measured.\n"
    return "\n".join(["## Rates\n", *notes("rates"), told, table(head, lines)])


def write_page() -> None:
    """The page and its pictures."""
    files = load()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in HEADINGS:
        svg = draw(name, files[name]["rows"]) if name in files else None
        if svg is not None:
            (PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")
    PAGE.write_text(page(files), encoding="utf-8")


if __name__ == "__main__":
    write_page()
