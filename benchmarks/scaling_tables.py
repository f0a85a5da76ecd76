"""Tables of docs/scaling.md, one function a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown, numbers to the right."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["--:"] * len(head), *lines)) + "\n"


def grid(
    rows: Sequence[Row], across: str, down: Sequence[str], cell: Callable[[Row], str], title: str = "staleness {}"
) -> str:
    """One line for each value of `down`, one column for each of `across`."""
    columns = list(dict.fromkeys(row[across] for row in rows))
    lines: dict[tuple[str, ...], dict[Any, str]] = {}
    for row in rows:
        lines.setdefault(tuple(number(row[name]) for name in down), {})[row[across]] = cell(row)
    head = [*(WORDS.get(name, name) for name in down), *(title.format(column) for column in columns)]
    return table(head, [[*key, *(cells.get(column, "") for column in columns)] for key, cells in lines.items()])


WORDS = {
    "at_once": "units at once",
    "unit": "questions a unit",
    "spread": "spread",
    "score": "s an answer",
    "max_staleness": "staleness",
}
"""What a column is called, where it is not its name."""


def number(value: Any) -> str:
    """Three digits, or what stands there."""
    if value is None:
        return "all of a worker's"
    if not isinstance(value, int | float):
        return {"inf": "never"}.get(str(value), str(value))
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def thousands(row: Row) -> str:
    """Answer tokens a second."""
    return f"{row['tokens_per_second'] / 1000:,.0f}"


def percent(share: float) -> str:
    """Without digits that nobody believes."""
    return f"{100 * share:.0f} %"


def scaling(rows: Sequence[Row]) -> str:
    """Throughput by staleness, then what the best of each size looks like."""
    apart = [row for row in rows if not row["shared"]]
    turns = [{**row, "max_staleness": "by turns"} for row in rows if row["shared"]]
    named = [*turns, *({**row, "max_staleness": f"staleness {row['max_staleness']}"} for row in apart)]
    ordered = sorted(named, key=lambda row: row["devices"])
    first = "Thousands of answer tokens a second, the best split of each:\n"
    fastest = [max((r for r in apart if r["devices"] == n), key=_speed) for n in dict.fromkeys(_sizes(apart))]
    sync = [row for row in apart if row["max_staleness"] == 0]
    kinds = (("Synchronous, its best split", sync), ("The staleness that is fastest", fastest))
    return "\n".join(
        [first, grid(ordered, "max_staleness", ["devices"], thousands, "{}"), *(t for k in kinds for t in _splits(*k))]
    )


def _sizes(rows: Sequence[Row]) -> list[int]:
    return [row["devices"] for row in rows]


def _speed(row: Row) -> float:
    return float(row["tokens_per_second"])


def _splits(title: str, rows: Sequence[Row]) -> tuple[str, str]:
    head = ["devices", "staleness", "learners + workers", "questions a unit", "steps an hour", "answers an hour"]
    head += ["learners wait", "learners learn", "workers sample", "places filled", "mean staleness"]
    lines = [
        [number(r["devices"]), str(r["max_staleness"]), f"{r['learners']} + {r['rollouts']}", number(r["unit"])]
        + [number(r["steps_per_hour"]), number(r["answers_per_hour"])]
        + [percent(r[name]) for name in ("waited", "learned", "sampled", "filled")]
        + [f"{r['mean_staleness']:.1f}"]
        for r in rows
    ]
    return f"{title}:\n", table(head, lines)


def filling(rows: Sequence[Row]) -> str:
    """One unit at a time against full workers."""
    told = "Thousands of answer tokens a second, the best split of each:\n"
    return f"{told}\n" + grid(rows, "max_staleness", ["devices", "at_once"], thousands)


def splitting(rows: Sequence[Row]) -> str:
    """Throughput and who waits."""
    told = f"{rows[0]['devices']} devices, thousands of answer tokens a second (learners wait / workers sample):\n"
    return f"{told}\n" + grid(
        rows,
        "max_staleness",
        ["learners", "rollouts"],
        lambda row: f"{thousands(row)} ({percent(row['waited'])} / {percent(row['sampled'])})",
    )


def units(rows: Sequence[Row]) -> str:
    """Throughput and how full the workers are."""
    told = (
        f"{rows[0]['learners']} + {rows[0]['rollouts']} devices, thousands of answer tokens a second (places filled):\n"
    )
    cell = lambda row: f"{thousands(row)} ({percent(row['filled'])})"  # noqa: E731
    return f"{told}\n" + grid(rows, "max_staleness", ["unit", "at_once"], cell)


def tails(rows: Sequence[Row]) -> str:
    """Throughput by spread."""
    told = f"{rows[0]['learners']} + {rows[0]['rollouts']} devices, thousands of answer tokens a second:\n"
    return f"{told}\n" + grid(rows, "max_staleness", ["spread", "longest", "at_once"], thousands)


def transfer(rows: Sequence[Row]) -> str:
    """The share of the time in which learners wait for weights that travel."""
    named = [{**row, "way": f"{'staleness 1, behind the step' if row['overlap'] else _way(row)}"} for row in rows]
    told = (
        "The 8 B model: share of the time that putting together and sending weights holds up the next step (seconds):\n"
    )
    cell = lambda row: f"{100 * row['synced']:.1f} % ({row['synced'] * row['seconds_per_step']:.2f} s)"  # noqa: E731
    return f"{told}\n" + grid(named, "way", ["devices", "route"], cell, "{}")


def _way(row: Row) -> str:
    return f"staleness {row['max_staleness']}, before the step"


def failures(rows: Sequence[Row]) -> str:
    """What failures cost, simulated and expected."""
    calm: dict[tuple[int, int], float] = {}
    lines = []
    for row in rows:
        key = (row["devices"], row["max_staleness"])
        base = calm.setdefault(key, _speed(row))
        told = [number(row[name]) for name in ("devices", "max_staleness", "hours", "failures", "lost")]
        lines.append([*told, percent(1 - _speed(row) / base), percent(row["expected"])])
    head = ["devices", "staleness", "a device fails every, h", "failures", "steps made again", "time lost", "expected"]
    return table(head, lines)


def growing(rows: Sequence[Row]) -> str:
    """Throughput when each device brings its questions."""
    told = "Four questions a device, thousands of answer tokens a second (a device):\n"
    cell = lambda row: f"{thousands(row)} ({_speed(row) / row['devices'] / 1000:.1f})"  # noqa: E731
    return f"{told}\n" + grid(rows, "max_staleness", ["devices", "questions"], cell)


def scoring(rows: Sequence[Row]) -> str:
    """Seconds an answer and scorers."""
    head = ["s an answer", "scorers", "thousands of tokens a second", "time spent scoring"]
    lines = [[number(r["score"]), str(r["scorers"]), thousands(r), percent(r["scored"])] for r in rows]
    told = f"{rows[0]['learners']} + {rows[0]['rollouts']} devices, staleness {rows[0]['max_staleness']}:\n"
    return f"{told}\n{table(head, lines)}"


def loop(rows: Sequence[Row]) -> str:
    """What the loop's own process costs."""
    told = "A quarter of the devices learns, thousands of answer tokens a second (seconds a step):\n"
    cell = lambda row: f"{thousands(row)} ({row['seconds_per_step']:.0f})"  # noqa: E731
    return f"{told}\n" + grid(rows, "loop", ["devices", "max_staleness"], cell, "{}")


def parts(rows: Sequence[Row]) -> str:
    """Two learners: measured, and what the fit says of a model whose learners it saw alone."""
    head = ["layers", "part", "answers", "tokens of the busier", "micro-batches", "ms, real", "fitted", "off by"]
    lines = [
        [number(r["layers"]), r["part"], *(number(r[name]) for name in ("rows", "tokens", "micro")), *_beside(r)]
        for r in rows
    ]
    return table(head, lines)


def _beside(row: Row) -> list[str]:
    off = 100 * (row["said"] / row["real"] - 1)
    return [f"{1000 * row['real']:.0f}", f"{1000 * row['said']:.0f}", f"{off:+.0f} %"]


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "scaling": scaling,
    "filling": filling,
    "splitting": splitting,
    "units": units,
    "tails": tails,
    "transfer": transfer,
    "failures": failures,
    "growing": growing,
    "scoring": scoring,
    "loop": loop,
}
