"""What is refused of a cluster before one is started or joined, and what its processes say. None of it needs Ray."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from scoreline.backends.cluster import doors
from scoreline.backends.cluster.connect import check_room
from scoreline.backends.cluster.process import WORKERS, cause, check_versions, see
from scoreline.backends.runtime import Ray
from scoreline.config.load import load
from scoreline.config.room import check_memory, copies, machine, share
from scoreline.config.run import Run
from scoreline.errors import ClusterError, ConfigError, MemoryLimitError, ModelError
from scoreline.models import tiny
from scoreline.models.adapters import Lora
from scoreline.models.policy import Model

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"

WITHOUT_RAY = """
import sys
from importlib import metadata
known = metadata.version
def version(name):
    if name == "ray":
        raise metadata.PackageNotFoundError(name)
    return known(name)
metadata.version = version
from scoreline.cli import main
sys.argv[1:] = ["train", "recipes/quickstart.toml", "runtime.type=ray", f"folder={sys.argv[1]}"]
main()
"""


def test_without_ray(tmp_path: Path) -> None:
    told = [sys.executable, "-c", WITHOUT_RAY, str(tmp_path)]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "ray is not installed" in done.stderr
    assert "pip install 'scoreline[ray]'" in done.stderr


@pytest.mark.parametrize("change", ["learners=0", "rollouts=0", "unit=0", "max_staleness=-1", "threads=0", "timeout=0"])
def test_values_that_make_no_cluster(change: str) -> None:
    with pytest.raises(ConfigError, match=rf"runtime\.{change.split('=')[0]}[\s\S]*accepted"):
        load(Run, [], ["runtime.type=ray", f"runtime.{change}"])


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:1", "[::1]:1"])
def test_an_address_where_nothing_answers(address: str) -> None:
    started = time.monotonic()
    with pytest.raises(ClusterError, match=r"Nothing answers[\s\S]*ray start --head") as caught:
        doors.check_address(address)
    assert f"runtime.address={address}: " in str(caught.value)
    assert time.monotonic() - started < doors.PATIENCE + 1


def test_an_address_where_something_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        doors.check_address(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.fixture
def tokenless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that knows no token; where one would be kept."""
    for name in (doors.MODE, doors.TOKEN, doors.TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".ray/auth_token"


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "127.0.0.1:6379"])
def test_no_cluster_is_asked_without_a_token(address: str, tokenless: Path) -> None:
    with pytest.raises(ClusterError, match=rf"no token to show[\s\S]*address={address}[\s\S]*get-auth-token"):
        doors.take_token(address)


def test_authentication_that_is_turned_off(tokenless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(doors.MODE, "disabled")
    monkeypatch.setenv(doors.TOKEN, "known")
    with pytest.raises(ClusterError, match=r"runs whatever it is sent[\s\S]*RAY_AUTH_MODE=disabled[\s\S]*every node"):
        doors.take_token("auto")


def test_a_token_is_shown_wherever_it_is_kept(tokenless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenless.parent.mkdir()
    tokenless.write_text("known")
    doors.take_token("10.0.0.1:6379")
    assert doors.os.environ[doors.MODE] == "token"
    monkeypatch.setenv(doors.TOKEN_PATH, str(tokenless.with_name("missing")))
    with pytest.raises(ClusterError, match=r"no file .*missing"):
        doors.take_token("auto")
    monkeypatch.setenv(doors.TOKEN, "known")
    doors.take_token("auto")


def test_a_stranger_knows_no_token() -> None:
    known = {"PATH": "/bin", doors.TOKEN: "known", doors.TOKEN_PATH: "/known", doors.MODE: "token"}
    assert doors.stranger(known) == {"PATH": "/bin", doors.MODE: "disabled"}


def test_versions_that_differ() -> None:
    check_versions({"torch": "2.13.0"}, {"torch": "2.13.0"}, "learner-1")
    with pytest.raises(ClusterError, match=r"same versions[\s\S]*torch 2.12.0 in learner-1, 2.13.0 here[\s\S]*None in"):
        check_versions({"torch": "2.13.0", "numpy": "2.4.6"}, {"torch": "2.12.0"}, "learner-1")


def test_more_processes_than_places() -> None:
    has = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": 4.0})
    check_room(has, Ray(learners=2, rollouts=2), gpus=1.0)
    with pytest.raises(
        ClusterError, match=r"fewer GPUs[\s\S]*8 for runtime.learners=5[\s\S]*at most 4[\s\S]*device=cpu"
    ):
        check_room(has, Ray(learners=5, rollouts=3), gpus=1.0)
    with pytest.raises(ClusterError, match=r"fewer CPUs[\s\S]*9 for runtime.learners=5, runtime.rollouts=4"):
        check_room(has, Ray(learners=5, rollouts=4))


@pytest.fixture
def huge(tmp_path: Path) -> Run:
    """A run of a model that fits nowhere, of which there is a configuration alone."""
    config = json.loads((tiny.path() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 4_000_000_000}))
    return Run(model=Model(path=str(tmp_path), device="cpu"), runtime=Ray(learners=2, rollouts=3))


def test_what_all_processes_of_a_machine_hold(huge: Run) -> None:
    """GRPO has a reference: 5 arrays in 2 halves, and 3 whole policies. Four ranks load 8 before they hold 5."""
    assert (copies(huge), share(huge)) == (5, 2.5)
    assert machine(huge) == (8, "5 for the learners, 3 for the rollout workers")
    assert machine(replace(huge, runtime=Ray(learners=4, rollouts=1)))[0] == 9
    adapted = replace(huge, model=replace(huge.model, lora=Lora(rank=4)))
    assert (share(adapted), machine(adapted)[0]) == (1, 2 + 3)


def test_a_model_that_does_not_fit_is_refused_before_a_cluster_is_started(huge: Run) -> None:
    with pytest.raises(MemoryLimitError, match=r"x 8 \(5 for the learners, 3 for the rollout workers\) = "):
        check_memory(huge)
    with pytest.raises(MemoryLimitError, match=r"parameters x 4 bytes x 5 = "):
        check_memory(replace(huge, runtime=Run().runtime))
    check_memory(replace(huge, runtime=Ray(address="auto")))  # its processes look at their own machines


def test_errors_of_processes() -> None:
    """As Ray hands them over: with what was raised as their `cause`."""

    class FromAfarError(Exception):
        def __init__(self, cause: Exception) -> None:
            self.cause = cause

    raised = ModelError("no such model")
    assert cause(FromAfarError(raised), "rollout-1") is raised
    said = str(cause(FromAfarError(KeyError("weight")), "rollout-1"))
    assert "KeyError: 'weight'" in said
    assert f"{WORKERS}/rollout-1.log in the run's folder, with the traceback" in said
    assert see("learner-*", "now") == "read workers/learner-*.log in the run's folder, now."


SPEAKS = """
import os, sys
from pathlib import Path
from scoreline.backends.cluster.process import collect_output, telling

@telling
class Speaker:
    def fail(self):
        print("before the fault")
        os.system("echo from another program")
        raise ValueError("on purpose")

collect_output(Path(sys.argv[1]) / "workers" / "rollout-0.log")
try:
    Speaker().fail()
except ValueError:
    os._exit(0)  # as a killed process does
"""


def test_what_a_process_prints_lands_in_its_log(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SPEAKS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")
    log = tmp_path / "workers/rollout-0.log"
    text = log.read_text()
    assert "before the fault\n" in text
    assert "from another program\n" in text
    assert "Traceback (most recent call last)" in text
    assert "ValueError: on purpose" in text
    assert log.stat().st_mode & 0o077 == 0, "nobody else reads it"


def test_recipes_are_laid_over_others() -> None:
    small = load(Run, [RECIPES / "quickstart.toml", RECIPES / "cluster/two_and_two.toml"])
    assert isinstance(small.runtime, Ray)
    assert (small.runtime.learners, small.runtime.rollouts, small.runtime.unit, small.train.steps) == (2, 2, 8, 60)
    grown = load(Run, [RECIPES / "gpu/grpo_steps.toml", RECIPES / "cluster/eight_nodes.toml"])
    assert isinstance(grown.runtime, Ray)
    assert (grown.runtime.address, grown.runtime.learners + grown.runtime.rollouts) == ("auto", 64)
    assert grown.objective == load(Run, [RECIPES / "gpu/grpo_steps.toml"]).objective
    one = load(Run, [RECIPES / "gpu/grpo_steps.toml", RECIPES / "cluster/one_node.toml"])
    assert isinstance(one.runtime, Ray)
    assert one.runtime.learners + one.runtime.rollouts == 8
