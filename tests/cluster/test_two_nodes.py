"""A cluster of two nodes that was there before: a run across both, and what is refused of such clusters."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cluster.island import needs_island, on_island

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600), needs_island]

HEAD = """
ray start --head --port 6500 --node-ip-address=127.0.0.1 --num-cpus "$FIRST" --include-dashboard=false \
    --object-store-memory=100000000 >&2
"""
SECOND = 'ray start --address=127.0.0.1:6500 --num-cpus "$OTHER" --object-store-memory=100000000 >&2\n'
RUN = """
"$PYTHON" -m scoreline train "$RECIPE" $SMALL folder="$FOLDER" runtime.type=ray runtime.threads=1 \
    runtime.address=127.0.0.1:6500 """
START = re.compile(r"^(?P<name>[\w-]+): process \d+ on (?P<address>[\d.]+), node (?P<node>\w+)$", re.M)


def nodes(run: Path) -> dict[str, str]:
    """Where each process of a run was, as it says itself."""
    found = [START.search(log.read_text()) for log in (run / "workers").glob("*.log")]
    return {match["name"]: match["node"] for match in found if match}


def test_a_run_across_two_nodes(tmp_path: Path) -> None:
    script = HEAD + SECOND + RUN + 'runtime.rollouts=2\n"$PYTHON" -m scoreline env --address 127.0.0.1:6500 --json'
    done = on_island(script, FOLDER=str(tmp_path), FIRST="2", OTHER="2")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "quickstart"
    assert json.loads((run / "summary.json").read_text())["steps"] == 2
    found = nodes(run)
    assert set(found) == {"learner-0", "rollout-0", "rollout-1"}
    assert found["rollout-0"] != found["rollout-1"], "spread over the nodes"
    said = json.loads(done.stdout[done.stdout.index("\n{") :])
    assert [node["cpus"] for node in said["cluster"]] == [2.0, 2.0]
    assert [node["versions"]["torch"] for node in said["cluster"]] == [said["torch"]] * 2


def test_a_folder_that_one_node_does_not_see(tmp_path: Path) -> None:
    """The second node has another disk in that place, and both learners or one of them are there."""
    blind = f"unshare --mount bash -c 'mount -t tmpfs none {tmp_path} && {SECOND.strip()}'\n"
    done = on_island(HEAD + blind + RUN + "runtime.learners=2", FOLDER=str(tmp_path), FIRST="1", OTHER="2")
    assert done.returncode == 2, done.stderr
    assert "not the same folder on every node" in done.stderr
    assert re.search(r"got: .*quickstart, not seen by learner-\d", done.stderr)
    assert "set folder to a path on such a disk" in done.stderr


ASK = '"$PYTHON" -m scoreline env --address 127.0.0.1:6500 > /dev/null 2> "$FOLDER/{name}" || echo {name} $?\n'


def test_what_is_refused_of_a_cluster(tmp_path: Path) -> None:
    """Too many learners, a wrong token, none, and what is no cluster: each in a few lines, without a traceback."""
    script = HEAD + RUN + 'runtime.learners=9 2> "$FOLDER/many" || echo many $?\n'
    script += "RAY_AUTH_TOKEN=another " + ASK.format(name="wrong")
    script += "RAY_AUTH_TOKEN= " + ASK.format(name="none")
    script += '"$PYTHON" -m http.server --bind 127.0.0.1 6700 > /dev/null 2>&1 &\n'
    script += ASK.format(name="other").replace("6500", "6700")
    done = on_island(script, FOLDER=str(tmp_path), FIRST="2")
    begun = "starting 9 learners, 1 rollout worker on the cluster at 127.0.0.1:6500 ..."
    assert done.stdout.splitlines() == [begun, "many 2", "wrong 2", "none 2", "other 2"], done.stderr
    many, wrong, none, other = ((tmp_path / name).read_text() for name in ("many", "wrong", "none", "other"))
    assert "fewer CPUs than the run needs" in many
    assert "10 for runtime.learners=9, runtime.rollouts=1" in many
    assert "accepted: at most 2" in many
    assert "does not take this token" in wrong
    assert "There is no token to show" in none
    assert "does not answer as a Ray cluster does" in other
    assert "Traceback" not in many + wrong + none + other


def test_a_cluster_that_lets_in_whoever_comes(tmp_path: Path) -> None:
    done = on_island(
        "RAY_AUTH_MODE=disabled" + HEAD.strip().join(" \n") + ASK.format(name="open"), FOLDER=str(tmp_path), FIRST="1"
    )
    assert done.stdout.split() == ["open", "2"], done.stderr
    said = (tmp_path / "open").read_text()
    assert "lets in whoever reaches it" in said
    assert "127.0.0.1:6500 answers without a token" in said
    assert "Traceback" not in said
