"""`ray symmetric-run`: one command on every machine starts the cluster, runs the recipe on the first, and ends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Run
from tests.cluster.island import RECIPE, SMALL, needs_island, on_island
from tests.cluster.small_run import checkpointed
from tests.cluster.test_two_nodes import nodes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), needs_island]

START = "ray symmetric-run --num-cpus 2 --object-store-memory=100000000"
TRAIN = """"$PYTHON" -m scoreline train "$RECIPE" $SMALL folder="$FOLDER" runtime.type=ray runtime.threads=1 \
    runtime.address=auto """
STOPPED = "pgrep -x 'gcs_server|raylet' || true\n"


def test_on_one_machine(tmp_path: Path) -> None:
    script = (
        START.replace("2 ", "4 ")
        + f" --address 127.0.0.1:6379 --include-dashboard=false -- {TRAIN} runtime.rollouts=2 >&2\n"
    )
    done = on_island(script + STOPPED, FOLDER=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "quickstart/summary.json").read_text())["steps"] == 2
    assert done.stdout == "", "nothing of the cluster is left"


TWO = """
unshare --net --pid --fork --kill-child --mount-proc bash -euc '
    ip link set lo up
    until ip link set cable1 up 2> /dev/null; do sleep 0.2; done
    ip addr add 10.78.0.2/24 dev cable1
    exec $EVERYWHERE
' > "$FOLDER/second.txt" 2>&1 &
sleep 0.5
ip link add cable0 type veth peer name cable1 netns $!
ip addr add 10.78.0.1/24 dev cable0
ip link set cable0 up
$EVERYWHERE >&2 || true
"""
"""A second network with its own processes, a cable between the two, and the same command in both. What that ends with
says nothing: waiting for other nodes, it becomes a process of the cluster that it stops.
"""


def on_two_machines(folder: Path, asked: str) -> dict[str, str]:
    """A run of two steps on both: the machine of each of its processes."""
    told = {"$PYTHON": sys.executable, "$RECIPE": str(RECIPE), "$SMALL": SMALL, "$FOLDER": str(folder), '"': ""}
    everywhere = f"{START} --address 10.78.0.1:6379 --min-nodes 2 -- {TRAIN}{asked}"
    for name, value in told.items():
        everywhere = everywhere.replace(name, value)
    done = on_island(TWO, FOLDER=str(folder), EVERYWHERE=everywhere)
    run = folder / "quickstart"
    logs = "".join(log.read_text()[-3000:] for log in run.glob("workers/*.log"))
    assert (run / "summary.json").exists(), done.stderr + (folder / "second.txt").read_text() + logs
    assert json.loads((run / "summary.json").read_text())["steps"] == 2
    return nodes(run)


def test_on_two_machines_in_networks_of_their_own(tmp_path: Path) -> None:
    found = on_two_machines(tmp_path, "runtime.rollouts=2")
    assert found["rollout-0"] != found["rollout-1"], "a worker on each machine"


def test_learners_on_two_machines_are_one_learner(tmp_path: Path) -> None:
    """Three of them, where each machine has room for two processes: their sums go through the cable."""
    exact = "train.gradient_sums=fp64 train.micro_batch_size=4"
    found = on_two_machines(tmp_path, f"runtime.learners=3 {exact}")
    assert len({found[f"learner-{rank}"] for rank in range(3)}) == 2
    torch.set_num_threads(1)
    alone = train(load(Run, [RECIPE], [*SMALL.split(), *exact.split(), f"folder={tmp_path}", "name=alone"]))
    mine, theirs = checkpointed(alone, 2), checkpointed(tmp_path / "quickstart", 2)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
