"""docs/ladder.md and its pictures, from docs/results/ladder/: `python benchmarks/ladder_page.py`.

NAME.json is what `scoreline compare` found, NAME.md beside it what a person says of it; both are taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoreline.reports.compare.shown.pictures import draw_arms

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE, PICTURES = ROOT / "docs/results/ladder", ROOT / "docs/ladder.md", ROOT / "docs/images/ladder"

EXPERIMENTS = {
    "absolute": "1. Absolute scores as reward",
    "critic": "2. A critic's score line",
    "clip": "3. Clip and min",
    "reference": "4. A reference model",
    "group": "5. The group as score line",
    "process": "6. Process against outcome supervision",
    "iterative": "7. A judge that goes on learning",
}
"""The rungs, each with its heading, in the order of the story."""

INTRODUCTION = """# The ladder, measured

Naive reward, a critic, clip and min, a reference, a group, steps, rounds: each mechanism claims to mend something. Each
claim has an experiment here that could refute it, on the embedded model, with {seeds} seeds, and a verdict by its
interval: *supported* where all of it lies on the claim's side, *refuted* where all of it lies on the other, else
*undecided*. [docs/compare.md](compare.md) says how intervals and measures are made.

`make ladder` makes this page from nothing; `python benchmarks/ladder.py NAME` one experiment of it. The recipes are in
`recipes/ladder/`, every number in `docs/results/ladder/`. A model of 0.44 million parameters and sums of three terms
are one place to look; what holds here need not hold at another scale.

Made a second time, from nothing, on two cores that had much other work, it took 97 minutes, 104 of them CPU time of
both cores together, and gave every accuracy to the last digit again. Seconds and memory here are of the first time, and
were taken beside other work as well.
"""

Found = Mapping[str, Any]


def load() -> dict[str, Found]:
    """Every experiment that was measured."""
    files = {name: RESULTS / f"{name}.json" for name in EXPERIMENTS}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}


def page(found: Mapping[str, Found]) -> str:
    """The whole page: all verdicts first, then one section an experiment."""
    seeds = sorted({len(each["seeds"]) for each in found.values()})
    parts = [INTRODUCTION.format(seeds=" or ".join(map(str, seeds))), "## Verdicts\n", verdicts(found)]
    missing = [heading for name, heading in EXPERIMENTS.items() if name not in found]
    parts += [f"Not measured yet: {'; '.join(missing)}.\n"] if missing else []
    parts += [section(name, each) for name, each in found.items()]
    return "\n".join(parts)


def verdicts(found: Mapping[str, Found]) -> str:
    """One row a claim."""
    rows = [
        f"| {EXPERIMENTS[name].split('.')[0]} | {claim['text']} | {_difference(claim)} | **{claim['verdict']}** |"
        for name, each in found.items()
        for claim in each["claims"]
    ]
    return "\n".join(["| | claim | difference [95 %] | verdict |", "|--:|---|--:|---|", *rows]) + "\n"


def section(name: str, found: Found) -> str:
    """Heading, what was done, the picture, the arms, what a person says of it."""
    budget = found["budget"]
    spent = f"{budget['amount']:,.0f} {budget['kind']}" if budget.get("amount") else budget["kind"]
    notes = RESULTS / f"{name}.md"
    told = notes.read_text(encoding="utf-8") if notes.is_file() else ""
    seeds = f"{len(found['seeds'])} seeds"
    head = f"## {EXPERIMENTS[name]}\n\n`scoreline compare recipes/ladder/{name}.toml`: {seeds}, {spent} a run.\n"
    picture = f"![Held-out accuracy of each arm]({PICTURES.relative_to(PAGE.parent).as_posix()}/{name}.svg)\n"
    return "\n".join([head, *([told] if told else []), picture, arms(found)])


COLUMNS = {
    "final": "final accuracy",
    "area": "mean over the budget",
    "drop": "drop from its best",
    "judged": "judged",
    "kl": "KL",
    "length": "length",
    "noise": "noise",
    "variance_times": "variance, times",
    "gain_hard": "gained, hard third",
    "gain_easy": "gained, easy third",
    "memory_mb": "MB",
    "seconds_per_step": "s a step",
}
"""The measures that a section shows, where they were taken."""


def arms(found: Found) -> str:
    """One row an arm, one column a measure that some arm has."""
    rows = found["arms"]
    shown = [key for key in COLUMNS if any(key in arm["measures"] for arm in rows)]
    head = f"| arm | {' | '.join(COLUMNS[key] for key in shown)} |\n|---|{'--:|' * len(shown)}\n"
    cells = [" | ".join(_estimate(arm["measures"].get(key)) for key in shown) for arm in rows]
    named = [f"`{arm['name']}` {arm['title']}".strip() for arm in rows]
    return head + "\n".join(f"| {title} | {cell} |" for title, cell in zip(named, cells, strict=True)) + "\n"


def _estimate(measure: Found | None) -> str:
    if measure is None or measure.get("mean") is None:
        return ""
    ends = _bounds(measure)
    mean = _number(measure["mean"])
    return mean if ends is None else f"{mean} [{_number(ends[0])}, {_number(ends[1])}]"


def _difference(claim: Found) -> str:
    found = claim.get("difference")
    if not found or found.get("mean") is None:
        return ""
    ends = _bounds(found)
    return f"{found['mean']:+.3g}" if ends is None else f"{found['mean']:+.3g} [{ends[0]:+.3g}, {ends[1]:+.3g}]"


def _bounds(found: Found) -> tuple[float, float] | None:
    """The wider of the two intervals on each side: the one that decides."""
    ends = [
        [found[key] for key in pair if found.get(key) is not None] for pair in (("low", "t_low"), ("high", "t_high"))
    ]
    return (min(ends[0]), max(ends[1])) if all(ends) else None


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"


def pictures(found: Mapping[str, Found]) -> dict[str, str]:
    """The learning curves of each experiment, as SVG files of their own."""
    drawn = {name: draw_arms({**each, "arms": [_named(arm) for arm in each["arms"]]}) for name, each in found.items()}
    return {name: _standing(curves[0].svg) for name, curves in drawn.items() if curves}


def _named(arm: Found) -> dict[str, Any]:
    """An arm that is called by its name, which is short enough for the end of a line."""
    return {**arm, "title": arm["name"]}


def _standing(svg: str) -> str:
    """A drawing for a file of its own, on white: inside a page it has the page's colours."""
    named = (
        svg if "xmlns=" in svg.split(">", 1)[0] else svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    )
    head, rest = named.split(">", 1)
    return f'{head} style="background:#fff;color:#222">{rest}\n' if "style=" not in head else f"{named}\n"


def write_page() -> None:
    """The page and its pictures."""
    found = load()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures(found).items():
        (PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    write_page()
