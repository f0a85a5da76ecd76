"""Committed oracle numbers: what verl, TRL and OpenRLHF answer, by their own functions, on the inputs written here.

Each library is run in an environment that has it (Python 3.11, CPU). The tests read the JSON alone.

verl 0.9.1 and OpenRLHF 0.11.2, in one environment:

    python -m venv .oracles/rl
    .oracles/rl/bin/pip install torch==2.13.0
    .oracles/rl/bin/pip install --no-deps verl==0.9.1 openrlhf==0.11.2
    .oracles/rl/bin/pip install transformers==5.23.0 tensordict==0.10.0 ray==2.60.0 omegaconf==2.3.1 codetiming orjson \
        pyvers cloudpickle dill msgpack jsonschema accelerate==1.15.0 datasets==5.2.0 pandas hydra-core einops
    .oracles/rl/bin/python tests/oracles/make_numbers.py verl
    .oracles/rl/bin/python tests/oracles/make_numbers.py openrlhf

TRL 1.16.0:

    python -m venv .oracles/trl
    .oracles/trl/bin/pip install torch==2.13.0
    .oracles/trl/bin/pip install trl==1.16.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0
    .oracles/trl/bin/python tests/oracles/make_numbers.py trl

`--check` compares with the committed file (to 1e-6) instead of writing it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
PACKAGES = {
    "verl": ("verl", "torch", "transformers", "tensordict", "ray", "numpy"),
    "trl": ("trl", "torch", "transformers", "accelerate", "datasets"),
    "openrlhf": ("openrlhf", "torch", "transformers"),
}


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two trees of numbers differ by more than 1e-6."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [line for key in a for line in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [line for i, pair in enumerate(zip(a, b, strict=True)) for line in differences(*pair, f"{path}/{i}")]
    if isinstance(a, float | int) and isinstance(b, float | int):
        return [] if abs(a - b) <= 1e-6 * max(1.0, abs(a)) else [f"{path}: committed {a}, now {b}"]
    return [] if a == b else [f"{path}: committed {a}, now {b}"]


def main(name: str, check: bool) -> int:
    torch.manual_seed(0)
    versions = {package: importlib.metadata.version(package) for package in PACKAGES[name]}
    cases = importlib.import_module(f"from_{name}").cases()
    made = json.loads(json.dumps({"library": name, "versions": versions, "cases": cases}))
    file = HERE / f"{name}.json"
    if not check:
        rows = [f'    "{key}": {json.dumps(value)}' for key, value in made["cases"].items()]
        head = f'{{\n  "library": "{name}",\n  "versions": {json.dumps(versions)},\n  "cases": {{\n'
        file.write_text(head + ",\n".join(rows) + "\n  }\n}\n")
        print(f"{len(cases)} cases -> {file}")
        return 0
    lines = differences(json.loads(file.read_text())["cases"], made["cases"])
    print("\n".join(lines) or f"{name}: {len(cases)} cases agree with {file.name}")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "--check" in sys.argv))
