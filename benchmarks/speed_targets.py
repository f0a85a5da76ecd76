"""What was aimed at, and whether it was reached: numbers from the result files, none typed by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Results = Sequence[Mapping[str, Any]]
Found = tuple[float, str] | None
"""A number and what it is of; None where it was not measured."""


@dataclass(frozen=True)
class Target:
    """A number that should be at least, or at most, `goal`."""

    what: str
    goal: float
    at_least: bool
    unit: str
    find: Callable[[Results], Found]

    def row(self, results: Results) -> str:
        """One line of the table."""
        goal = f"at {'least' if self.at_least else 'most'} {self.goal:g} {self.unit}"
        found = self.find(results)
        if found is None:
            return f"| {self.what} | {goal} | | not measured |"
        value, of = found
        reached = value >= self.goal if self.at_least else value <= self.goal
        return f"| {self.what} | {goal} | {f'{value:.2f} {of}'.strip()} | {'reached' if reached else '**missed**'} |"


def of_kind(results: Results, kind: str) -> list[Mapping[str, Any]]:
    """The files that one script wrote."""
    return [told for told in results if told["kind"] == kind]


def steps(results: Results, workload: str, *modes: str) -> Iterator[Mapping[str, Any]]:
    """The comparisons with TRL on a workload, in these of its modes or all."""
    for told in of_kind(results, "step"):
        if told["arguments"]["workload"] == workload:
            yield from (one for one in told["comparisons"] if not modes or one["trl"] in modes)


def least(found: Sequence[tuple[float, str]]) -> Found:
    """The number that is worst for us where more is better."""
    return min(found, default=None)


def whole_step(workload: str, *modes: str) -> Callable[[Results], Found]:
    """TRL's median step by ours: the least of the comparisons."""

    def find(results: Results) -> Found:
        timed = [one for one in steps(results, workload, *modes) if "medians" in one]
        return least([(one["medians"]["ratio"], f"(TRL {one['trl']})") for one in timed])

    return find


def per_token(workload: str) -> Callable[[Results], Found]:
    """The same per sampled token, for answers that end at will: the least of TRL's modes and of all shapes."""

    def find(results: Results) -> Found:
        timed = [one for one in steps(results, workload) if "medians" in one]
        return least([(one["medians"]["per_token"], detail(one)) for one in timed])

    return find


def detail(one: Mapping[str, Any]) -> str:
    """Which comparison it is of, and the ratio of its steps."""
    return f"a token (TRL {one['trl']}, {one['prompts']} prompts; {one['medians']['ratio']:.2f} a step)"


def memory(results: Results) -> Found:
    """Our peak by that of TRL's default mode."""
    told = [one["memory_mb"] for one in steps(results, "smollm2", "amp") if "memory_mb" in one]
    shares = [(m["ours"]["peak"] / m["trl"]["peak"], f"({m['ours']['peak']:.0f} MB)") for m in told]
    return max(shares, default=None)


def over_floor(results: Results) -> Found:
    """Our median step by the arithmetic floor that was measured beside it."""
    told = [one for one in steps(results, "smollm2") if "floor" in one]
    times = [(one["medians"]["ours"]["seconds"] / one["floor"]["seconds"], "") for one in told]
    return max(times, default=None)


def against_vllm(shape: str) -> Callable[[Results], Found]:
    """Our tokens a second by vLLM's."""

    def find(results: Results) -> Found:
        told = [one for file in of_kind(results, "sampling") for one in file["comparisons"] if one["shape"] == shape]
        return least([quotient for one in told if (quotient := by_vllm(one["speeds"])) is not None])

    return find


def by_vllm(speeds: Sequence[Mapping[str, Any]]) -> Found:
    """Of one comparison."""
    medians = {told["name"]: told["median"] for told in speeds}
    theirs = next((name for name in medians if name.startswith("vllm")), None)
    return None if theirs is None else (medians["Scoreline"] / medians[theirs], f"({theirs})")


def quickstart(results: Results) -> Found:
    """The median over the seeds."""
    told = [one["between"] for file in of_kind(results, "quickstart") for one in file["outcomes"]]
    return (median(told), f"({len(told)} seeds)") if told else None


TARGETS = (
    Target("S, whole step, against TRL amp, its default", 5, True, "times", whole_step("smollm2", "amp")),
    Target("S, whole step, against TRL in pure bf16", 3.5, True, "times", whole_step("smollm2", "bf16")),
    Target("T, whole step, against TRL's fastest mode", 4, True, "times", per_token("tiny")),
    Target("S, answers of uneven length up to 256 tokens, against TRL", 6, True, "times", per_token("uneven")),
    Target("S, sampling against vLLM, 4 x 8 x 64 tokens", 1.5, True, "times", against_vllm("4x8")),
    Target("S, sampling against vLLM, 8 x 8 x 64 tokens", 1.5, True, "times", against_vllm("8x8")),
    Target("S, peak memory against TRL amp", 0.5, False, "of it", memory),
    Target("S, whole step, against the arithmetic floor", 3, False, "times", over_floor),
    Target("quickstart, from evaluation to evaluation", 30, False, "s", quickstart),
)


def table(results: Results) -> str:
    """All targets."""
    head = ["| | target | found | |", "|---|---|---|---|"]
    return "\n".join([*head, *(target.row(results) for target in TARGETS)])
