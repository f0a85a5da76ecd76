"""Past these machines: a discrete-event model of a run on 1 to 1,024 devices, and how far off it is on real runs.

python benchmarks/scaling.py                                  # all studies, docs/results/scaling/, docs/scaling.md
python benchmarks/scaling.py --only scaling tails             # some of them
python benchmarks/scaling.py --measure RUN... --rates cpu.json    # rates of this machine, from runs that were made
python benchmarks/scaling.py --fit parts.json --rates cpu.json    # the same from parts that were measured alone
python benchmarks/scaling.py --check RUN... --rates cpu.json      # these runs against the model at those rates
python benchmarks/scaling.py --smoke                          # as small as it gets; docs/ stays as it is

Runs are folders with config.resolved.toml and metrics.jsonl. Numbers of GPUs are data sheets and assumptions
(`scaling_rates.py`): nothing here has measured one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scaling_fit import fit
from scaling_model import Rates, as_json, from_json
from scaling_page import CHECK, RESULTS, write_page
from scaling_rates import H100, LARGE, SMALL
from scaling_runs import compared, measured, read
from scaling_sweep import SMOKE, STUDIES, WORK, Row, Scale, rates_of, table

from scoreline.errors import ScorelineError

COLUMNS = (
    "devices",
    "learners",
    "rollouts",
    "max_staleness",
    "tokens_per_second",
    "waited",
    "sampled",
    "mean_staleness",
)
CHECKED = ("run", "learners", "rollouts", "max_staleness", "real", "model", "error")
RATES = "rates.json"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", choices=tuple(STUDIES), default=list(STUDIES), help="studies; left out, all of them")
    add("--smoke", action="store_true", help="a few devices and steps; nothing is written")
    add("--measure", nargs="+", type=Path, metavar="RUN", help="runs to take rates from; --rates is where they go")
    add("--fit", type=Path, metavar="PARTS", help="what scaling_parts.py measured; --rates is where rates go")
    add("--check", nargs="+", type=Path, metavar="RUN", help="runs to compare with the model at --rates")
    add("--rates", type=Path, help="a file of rates, written by --measure and read by --check")
    add("--name", default="local", help="the check is kept as check-NAME.json, beside those of other names")
    add("--cores", type=int, help="cores that the runs had; left out, this machine's")
    told = parser.parse_args(argv)
    if (told.measure or told.fit or told.check) and not told.rates:
        parser.error("--measure, --fit and --check need --rates FILE")
    return told


def study(name: str, scale: Scale) -> list[Row]:
    """One study, printed as it comes."""
    rows = STUDIES[name](scale)
    print(f"{name}\n{table(rows, COLUMNS)}\n", flush=True)
    return rows


def write(name: str, told: Mapping[str, Any]) -> None:
    """A file in docs/results/scaling/, numbers to six digits, a line a row."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / name).write_text(lines(rounded(told)), encoding="utf-8")


def lines(told: Mapping[str, Any]) -> str:
    """JSON in which a list's items and a mapping's values have a line each."""
    parts = [f"{json.dumps(key)}: {_opened(value)}" for key, value in told.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _opened(value: Any) -> str:
    if isinstance(value, list):
        return "[\n" + ",\n".join(f" {json.dumps(item)}" for item in value) + "\n]"
    if isinstance(value, Mapping):
        return "{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()) + "\n}"
    return json.dumps(value)


def rounded(value: Any) -> Any:
    """Six digits are enough, and the same everywhere; JSON has no word for infinity."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


def stated() -> dict[str, Any]:
    """The step of the sweep, and both models' rates with their sources."""
    rates = {model.name: as_json(rates_of(model, WORK)) for model in (SMALL, LARGE)}
    return {"device": H100.name, "work": asdict(WORK), "rates": rates}


def keep_rates(rates: Rates, file: Path) -> None:
    """Rates of this machine, into a file."""
    found = as_json(rates)
    file.write_text(lines(rounded(found)), encoding="utf-8")
    print("\n".join(f"{name:12} {entry['value']}" for name, entry in found.items()))  # type: ignore[index]


def check(runs: Sequence[Path], cores: int | None, file: Path, name: str) -> None:
    """Runs against the model, into docs/results/scaling/check-NAME.json and the page."""
    told = json.loads(file.read_text(encoding="utf-8"))
    rates = from_json({name: {**entry, "value": float(entry["value"])} for name, entry in told.items()})
    rows = [compared(read(run, cores), rates) for run in runs]
    print(table(rows, CHECKED))
    write(f"{CHECK}{name}.json", {"rates": told, "rows": rows})
    write_page()


def main(argv: Sequence[str] | None = None) -> None:
    """Take rates, check, or simulate."""
    told = arguments(argv)
    if told.measure:
        keep_rates(measured([read(run, told.cores) for run in told.measure]), told.rates)
    if told.fit:
        keep_rates(fit(json.loads(told.fit.read_text(encoding="utf-8"))), told.rates)
    if told.check:
        check(told.check, told.cores, told.rates, told.name)
    if told.measure or told.fit or told.check:
        return
    for name in told.only:
        rows = study(name, SMOKE if told.smoke else Scale())
        if not told.smoke:
            write(f"{name}.json", {"rows": rows})
    if not told.smoke:
        write(RATES, stated())
        write_page()


if __name__ == "__main__":
    try:
        main()
    except ScorelineError as error:
        sys.exit(str(error))
