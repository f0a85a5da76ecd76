"""docs/speed.md from the files in docs/results/speed/: `python benchmarks/make_speed_page.py`.

`make speed` measures and then runs this. What nobody can measure, the reasons behind a missed target, stands in
docs/results/speed/notes.md, and is taken over as it is. `--check` only says whether the page is what the files make.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from speed_tables import machine_text, sections
from speed_targets import Results, table

ROOT = Path(__file__).resolve().parents[1]
FOLDER, PAGE = ROOT / "docs/results/speed", ROOT / "docs/speed.md"

INTRODUCTION = """# Speed

Made by `make speed` from the files in `docs/results/speed/`, which hold every single step; `benchmarks/README.md` says
what each script does and how to read it. Ratios are those of medians of steps that took turns in one run. Seconds
of different tables do not compare: the machine may have been busier.

S is SmolLM2-135M-Instruct, 4 prompts x 8 answers x 64 tokens; T is the embedded model. TRL runs as it is installed,
without gradient checkpointing, which it would otherwise have; `amp` is its default, `bf16` has weights in bf16.
"""

READING = """## How to read it

* A ratio above 1 says that Scoreline is faster; behind it stands the range of single pairs of neighbouring steps.
* Where answers end at will, the sides sample different numbers of tokens: there the ratio a token is the fair one.
* Warm-up steps do not count. What is compiled is compiled in them; a later process finds most of it in its cache.
* The floor is what the step must multiply and read, at the rates at which this machine multiplies large matrices and
  reads memory in the same precision and run (`benchmarks/floor.py`). Softmax, norms, the optimiser and Python are not
  in it. Behind sampling's floor stands what it takes with torch's products of so few rows.
* Numbers of a CPU say nothing about a GPU. A device has a section of its own when it was measured.
"""


def load(folder: Path) -> Results:
    """All result files, by name."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise SystemExit(f"There is no result in {folder}: `make speed` writes them.")
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def page(results: Results, notes: str = "") -> str:
    """The whole page: targets, then one section a device, then how to read it."""
    by_device = sorted(results, key=device)
    cpu = [told for told in results if device(told) == "cpu"]
    parts = [INTRODUCTION, *(["## Targets", table(cpu)] if cpu else [])]
    parts += [notes] if notes else []
    for name, group in groupby(by_device, key=device):
        files = list(group)
        parts += [f"## Measured on {'the CPU' if name == 'cpu' else name}", machine_text(files), *sections(files)]
    return "\n\n".join(part.strip("\n") for part in [*parts, READING]) + "\n"


def device(told: Mapping[str, Any]) -> str:
    """What computed."""
    return str(told["machine"]["device"])


def main(argv: Sequence[str] | None = None) -> None:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(argv)
    notes = args.results / "notes.md"
    made = page(load(args.results), notes.read_text(encoding="utf-8") if notes.is_file() else "")
    if args.check:
        if not args.out.is_file() or args.out.read_text(encoding="utf-8") != made:
            raise SystemExit(f"{args.out} is not what the files in {args.results} make: run make_speed_page.py.")
        return
    args.out.write_text(made, encoding="utf-8")
    print(f"{args.out}: {len(load(args.results))} files")


if __name__ == "__main__":
    main()
