"""The tables of docs/speed.md, one a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import breakdown
import figures
import sampling
import sweep
from speed_targets import Results, of_kind

TITLES = {
    "tiny": "T, the embedded model",
    "smollm2": "S, SmolLM2-135M-Instruct",
    "uneven": "S, answers that end at will",
}


def sections(results: Results) -> list[str]:
    """Everything that was measured on one machine's device, in the order of the scripts."""
    makers = (step_sections, memory_section, floor_section, sampling_sections, sweep_sections, breakdown_sections)
    return [text for maker in makers for text in maker(results)]


def compared(results: Results, key: str) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """(file, comparison) of all whole steps that have this."""
    return [(told, one) for told in of_kind(results, "step") for one in told["comparisons"] if key in one]


def step_sections(results: Results) -> list[str]:
    """Seconds of steps, and the seconds of their parts."""
    found = compared(results, "medians")
    if not found:
        return []
    head = [
        "| step | TRL | Scoreline, s | TRL, s | ratio (pairs) | a token | tokens of answers: ours; TRL's "
        "| warm-up, s: ours; TRL's |",
        "|---|---|--:|--:|--:|--:|---|---|",
    ]
    rows = [step_row(told, one) for told, one in found]
    parts = [part_row(told, one) for told, one in found]
    names = [f"{name}: ours; TRL's" for name in figures.PARTS]
    under = ["|---|---|", "--:|" * len(names)]
    return [
        "### Whole steps",
        "\n".join([*head, *rows]),
        "Medians of the parts, in seconds:",
        "\n".join([f"| step | TRL | {' | '.join(names)} |", "".join(under), *parts]),
    ]


def named(told: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """`T, the embedded model, 8 x 8, fp32`."""
    asked = told["arguments"]
    answers = one.get("workload", {}).get("answers", 8)
    beta = f", beta {asked['beta']:g}" if asked["beta"] else ""
    return f"{TITLES[asked['workload']]}, {one['prompts']} x {answers}, {asked['precision']}{beta}"


def step_row(told: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """One comparison."""
    m, warm = one["medians"], one["warmup"]
    lengths = "; ".join(length(m[side].get("lengths")) for side in ("ours", "trl"))
    first = "; ".join(", ".join(f"{step['seconds']:.1f}" for step in warm[side]) for side in ("ours", "trl"))
    return (
        f"| {named(told, one)} | {one['trl']} | {m['ours']['seconds']:.3f} | {m['trl']['seconds']:.3f} "
        f"| {m['ratio']:.2f} ({m['lowest']:.2f} to {m['highest']:.2f}) | {m['per_token']:.2f} | {lengths} | {first} |"
    )


def length(told: Mapping[str, float] | None) -> str:
    """`87 (18 to 256)`."""
    return "" if told is None else f"{told['mean']:.0f} ({told['least']} to {told['most']})"


def part_row(told: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """The parts of one comparison."""
    m = one["medians"]
    cells = (f"{m['ours']['parts'][name]:.3f}; {m['trl']['parts'][name]:.3f}" for name in figures.PARTS)
    return f"| {named(told, one)} | {one['trl']} | {' | '.join(cells)} |"


def memory_section(results: Results) -> list[str]:
    """Peaks of each side alone in a process."""
    found = compared(results, "memory_mb")
    head = ["| step | TRL | Scoreline, MB | TRL, MB | Scoreline / TRL | imports alone |", "|---|---|--:|--:|--:|--:|"]
    rows = [memory_row(told, one) for told, one in found]
    return ["### Peak memory, each side alone in a fresh process", "\n".join([*head, *rows])] if found else []


def memory_row(told: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """Of the device, where it has memory of its own, else of the process."""
    ours, trl = one["memory_mb"]["ours"], one["memory_mb"]["trl"]
    key = "device_peak" if "device_peak" in ours else "peak"
    share, imports = ours[key] / trl[key], f"{ours['start']:.0f}; {trl['start']:.0f}"
    return f"| {named(told, one)} | {one['trl']} | {ours[key]:.0f} | {trl[key]:.0f} | {share:.2f} | {imports} |"


def floor_section(results: Results) -> list[str]:
    """Steps by what their arithmetic alone takes."""
    found = compared(results, "floor")
    head = [
        "| step | TRL | floor, s | of it sampling (with torch's products), prompts, training "
        "| GFLOP/s decoding; training; GB/s | Scoreline / floor | TRL / floor |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    rows = [floor_row(told, one) for told, one in found]
    return ["### The arithmetic floor", "\n".join([*head, *rows])] if found else []


def floor_row(told: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """One comparison's."""
    f, m = one["floor"], one["medians"]
    spent = f"{f['sampling']:.3f} ({f['products']:.3f}), {f['prompts']:.3f}, {f['training']:.3f}"
    rates = f"{f['gflops_decoding']:.0f}; {f['gflops_training']:.0f}; {f['gigabytes_read']:.0f}"
    times = " | ".join(f"{m[side]['seconds'] / f['seconds']:.1f}" for side in ("ours", "trl"))
    return f"| {named(told, one)} | {one['trl']} | {f['seconds']:.3f} | {spent} | {rates} | {times} |"


def sampling_sections(results: Results) -> list[str]:
    """Each file and shape a table."""
    return [
        sampling.table(
            f"Sampling, {TITLES[told['arguments']['workload']]}, {told['arguments']['precision']}: "
            f"{one['shape'].replace('x', ' x ')} x {one['budget']} tokens",
            [sampling.Speed(**speed) for speed in one["speeds"]],
        )
        for told in of_kind(results, "sampling")
        for one in told["comparisons"]
    ]


def sweep_sections(results: Results) -> list[str]:
    """Each axis a table, after what stays the same."""
    made = []
    for told in of_kind(results, "sweep"):
        asked, base = told["arguments"], told["arguments"]["base"]
        made.append(
            f"### How a step grows\n\nLlamas with random weights in {asked['precision']}; where it is not what varies: "
            f"{base['layers']} layers {base['width']} wide, {base['vocabulary']} words, {asked['prompts']} prompts of "
            f"{asked['prompt_tokens']} tokens x {base['answers']} answers of {base['budget']} tokens, "
            f"{asked['micro_batch']} rows at once in training."
        )
        made += [sweep.table(axis, points).replace("### ", "#### ", 1) for axis, points in told["curves"].items()]
    return made


def breakdown_sections(results: Results) -> list[str]:
    """Each file a table, and one of operators where they were asked for."""
    made: list[str] = []
    for told in of_kind(results, "breakdown"):
        made.append(breakdown.table(f"Where a step's time goes: {told['title']}; {told['precision']}", told["parts"]))
        made += [breakdown.operators_table(told["operators"])] if told["operators"] else []
    return made


def machine_text(files: Sequence[Mapping[str, Any]]) -> str:
    """What it was measured on; the versions and dates of all files."""
    one, dates = files[0]["machine"], sorted({told["machine"]["date"] for told in files})
    known = {name: sorted({told["machine"]["versions"].get(name, "") for told in files} - {""}) for name in VERSIONS}
    versions = ", ".join(f"{name} {' and '.join(found)}" for name, found in known.items() if found)
    threads = " and ".join(map(str, sorted({told["machine"]["torch_threads"] for told in files})))
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"{one['processor']} ({', '.join(one['instructions'])}), {one['cores']} cores, threads: {threads}; "
        f"{one['system']}, Python {one['python']}, {versions}. Measured {when}."
    )


VERSIONS = ("torch", "transformers", "trl", "accelerate", "datasets")
