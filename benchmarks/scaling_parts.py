"""What the parts of a step take alone, each in the processes that a run has: `scaling_parts.py --json FILE`.

    learners     updates, passes without gradient and published weights of 1, 2 and 3 ranks; two learners at one time
    workers      units of several sizes, weights taken over; two workers at one time
    controller   the loop with learners and workers that answer at once

No run is made, so that runs can check what is fitted to this (`scaling_fit.py`). Models: the embedded one, and others
like it with more layers or wider ones. Each process has one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from scaling_controller import controller
from scaling_learners import crowded, learners
from scaling_sampling import workers
from transformers import AutoConfig, AutoModelForCausalLM

from scoreline.backends.cluster.connect import connected
from scoreline.backends.runtime import Ray
from scoreline.config.load import load
from scoreline.config.run import Run
from scoreline.errors import ScorelineError
from scoreline.models.policy import Policy, load_policy

RECIPE = Path(__file__).resolve().parents[1] / "recipes/quickstart.toml"
SHAPES = {"tiny": (4, 96), "deep": (8, 96), "wide": (4, 192)}
"""Decoder layers and width of each model; `tiny` is the embedded one."""

Row = dict[str, Any]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the seconds go")
    parser.add_argument("--repeat", type=int, default=5, help="of each measurement, of which the middle one counts")
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2, 3], help="numbers of learners")
    parser.add_argument("--models", nargs="*", choices=tuple(SHAPES), default=list(SHAPES), help="of the learners")
    parser.add_argument("--no-workers", dest="workers", action="store_false", help="leave out what workers do")
    parser.add_argument("--no-controller", dest="controller", action="store_false", help="leave out the loop")
    return parser.parse_args(argv)


def shaped(name: str, folder: Path) -> str:
    """A model's folder: the embedded one, or random weights in another shape."""
    if name == "tiny":
        return "tiny"
    tiny = load_policy(load(Run, [RECIPE]).model)
    layers, width = SHAPES[name]
    told = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "head_dim": width // 4,
        "intermediate_size": 8 * width // 3,
    }
    given = {name: value for name, value in tiny.model.config.to_dict().items() if name != "model_type"}
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **(given | told)))
    Policy(made.float(), tiny.text, torch.device("cpu")).save(folder / name)
    return str(folder / name)


def measure(told: argparse.Namespace) -> Iterator[list[Row]]:
    """Everything, part by part, a row a measurement."""
    run = load(Run, [RECIPE])
    if told.controller:
        yield controller(run, told.repeat)
    with tempfile.TemporaryDirectory() as place, connected(Ray(learners=max(2, *told.ranks), rollouts=2)) as ray:
        for name in told.models:
            shape = replace(run, model=replace(run.model, path=shaped(name, Path(place))))
            for ranks in told.ranks:
                found = learners(ray, shape, ranks, told.repeat)
                yield [{"model": name, "layers": SHAPES[name][0], **row} for row in found]
        if told.workers:
            yield crowded(ray, run, told.repeat)
            yield workers(ray, run, told.repeat)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; whatever is there is kept, so that models and ranks can be measured one after the other."""
    told = arguments(argv)
    rows: list[Row] = json.loads(told.json.read_text(encoding="utf-8")) if told.json.is_file() else []
    for found in measure(told):
        rows += found
        told.json.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
        print(f"{len(rows)} measurements in {told.json}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except ScorelineError as error:
        sys.exit(str(error))
