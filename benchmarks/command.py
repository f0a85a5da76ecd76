"""What the scripts of speed have in common: the environment, fresh processes, files. Imports nothing that weighs."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Whatever weighs something is imported late: on Linux a child's peak memory starts from its parent's, so a parent that
# has children measured stays small.

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


def common(parser: argparse.ArgumentParser) -> None:
    """The options that every script has."""
    add = parser.add_argument
    add("--model", help="model folder (SmolLM2: or set SCORELINE_SMOLLM2; tiny: the embedded one)")
    add("--gsm8k", default=os.environ.get("SCORELINE_GSM8K"), help="folder with train.jsonl; else built-in questions")
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="Scoreline's")
    add("--compile", action="store_true", help="ours also (step: only) with compiled decoder layers while sampling")
    add("--device", default="auto", help="auto is CUDA where there is one, else the CPU")
    add("--threads", type=int, help="torch threads; without it OMP_NUM_THREADS, or all cores")
    add("--json", type=Path, help="write machine, versions and every number to this file")


def prepare(threads: int | None) -> None:
    """Before torch is imported: no network, no warnings, so many threads."""
    os.environ.update(ENVIRONMENT | ({"OMP_NUM_THREADS": str(threads)} if threads else {}))


def options(told: Mapping[str, Any]) -> Iterator[str]:
    """`{"trl_micro_batch": 8, "trl": ["amp"], "memory": None}` -> `--trl-micro-batch 8 --trl amp`."""
    for name, value in told.items():
        if value is not None and value is not False:
            values = value if isinstance(value, list) else [] if value is True else [value]
            yield from (f"--{name.replace('_', '-')}", *map(str, values))


def child(script: str, told: Mapping[str, Any]) -> Any:
    """This script with these options in a fresh process; what its last line says, as JSON."""
    done = subprocess.run([sys.executable, script, *options(told)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def write(path: Path | None, told: Mapping[str, Any]) -> None:
    """The file that `make_speed_page.py` reads, where one was asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=1, default=str) + "\n", encoding="utf-8")
