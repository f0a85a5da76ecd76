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
from typing import Any

import pytest
import torch

from scoreline.backends.cluster import doors
from scoreline.backends.cluster.connect import check_room
from scoreline.backends.cluster.process import WORKERS, cause, check_versions, places, see
from scoreline.backends.runtime import Ray
from scoreline.config import room as rooms
from scoreline.config.load import load
from scoreline.config.room import check_memory, check_rank, check_worker, copies, critic, machine, reading, share
from scoreline.config.run import Run
from scoreline.config.workers import check_transfer
from scoreline.errors import ClusterError, ConfigError, MemoryLimitError, ModelError
from scoreline.models import footprint, tiny
from scoreline.models.adapters import Lora
from scoreline.models.critic import CriticConfig
from scoreline.models.footprint import sketch
from scoreline.models.policy import Model
from scoreline.objectives.zoo import ppo
from scoreline.train.plan import Plan

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


def test_weights_are_streamed_into_vllm_alone() -> None:
    with pytest.raises(ConfigError, match=r'transfer="stream" with engine.type="local"[\s\S]*engine=vllm'):
        check_transfer(Run(), Ray(transfer="stream"))
    check_transfer(Run(), Ray(transfer="auto"))
    check_transfer(load(Run, [], ["engine=vllm"]), Ray(transfer="stream"))
    with pytest.raises(ConfigError, match=r"runtime.transfer[\s\S]*store"):
        load(Run, [], ["runtime.type=ray", "runtime.transfer=pigeons"])


@pytest.mark.parametrize("address", ["", "nonsense", "6379", "127.0.0.1:", "127.0.0.1:99999", "ray://127.0.0.1:10001"])
def test_what_is_no_address(address: str, tokenless: Path) -> None:
    """Which is said before anything of tokens."""
    with pytest.raises(ClusterError, match=r"no address of a cluster[\s\S]*HOST:PORT"):
        doors.take_token(address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1"])
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
    with pytest.raises(
        ClusterError, match=r"10 for [^\n]*rollouts=1, runtime.scorers=8\n[\s\S]*or runtime.scorers, or add nodes\."
    ):
        check_room(has, Ray(scorers=8))
    with pytest.raises(ClusterError, match=r"5 for runtime.learners=4, runtime.rollouts=1\n"):
        check_room(has, Ray(learners=4, scorers=1), gpus=1.0)


def test_places_that_others_have() -> None:
    def group(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(ready=lambda: None)

    busy = SimpleNamespace(util=SimpleNamespace(placement_group=group), wait=lambda refs, timeout: ([], refs))
    with pytest.raises(ClusterError, match=r"3 times {'CPU': 1.0}[\s\S]*runtime.rollouts or runtime.scorers"):
        places(busy, 3, "SPREAD", 0.0, 1.0)


@pytest.fixture
def huge(tmp_path: Path) -> Run:
    """A run of a model that fits nowhere, of which there is a configuration alone."""
    return Run(model=Model(path=write_config(tmp_path), device="cpu"), runtime=Ray(learners=2, rollouts=3))


def write_config(folder: Path, **told: object) -> str:
    """A model's folder with nothing in it but its configuration: the embedded model's, with many words."""
    folder.mkdir(exist_ok=True)
    config = json.loads((tiny.path() / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 4_000_000_000, **told}))
    return str(folder)


def test_what_all_processes_of_a_machine_hold(huge: Run) -> None:
    """GRPO has a reference: 5 arrays in 2 halves, and 3 whole policies. The first reads one, and has rows of 2."""
    assert (copies(huge), share(huge)) == (5, 2.5)
    assert machine(huge, 2, 3) == (8, "5 for the learners, 3 for the rollout workers")
    assert machine(huge, 1, 0) == (2.5, "2.5 for the learners")
    assert machine(replace(huge, runtime=Ray(learners=4, rollouts=1)), 4, 1)[0] == 6
    assert reading(huge) == 1 + 2 / 2
    adapted = replace(huge, model=replace(huge.model, lora=Lora(rank=4)))
    assert (share(adapted), reading(adapted), machine(adapted, 2, 3)[0]) == (1, 1, 2 + 3)


def test_a_critic_is_counted_by_its_own_size(huge: Run, tmp_path: Path) -> None:
    """Half of the policy is its head, and half its embedding; the embedding of the critic with a path has half as many
    words. PPO has a reference too.
    """
    untied = write_config(tmp_path / "untied", tie_word_embeddings=False)
    half = write_config(tmp_path / "half", vocab_size=2_000_000_000)
    run = replace(huge, model=replace(huge.model, path=untied), objective=ppo)
    own, shared = (replace(run, critic=CriticConfig(**told)) for told in ({"path": half}, {"kind": "shared"}))
    assert critic(run) == pytest.approx(1 / 2, rel=1e-5)
    assert critic(own) == pytest.approx(1 / 4, rel=1e-5)
    assert (critic(shared), copies(shared), critic(huge)) == (0, 5, 0)
    assert (copies(own), share(own)) == pytest.approx((6, 3), rel=1e-5)
    assert (reading(run), reading(own)) == pytest.approx((1 + 2.5 / 2, 1.25 + 2.25 / 2), rel=1e-5)
    exact, eight = (
        replace(own, train=Plan(**told))
        for told in ({"gradient_sums": "fp64", "micro_batch_size": 8}, {"optimizer": "adamw_8bit"})
    )
    assert (copies(exact), share(exact), copies(eight)) == pytest.approx((8.5, 5.5, 3.5), rel=1e-5)
    lora = replace(run.model, lora=Lora(rank=4))
    assert (critic(replace(run, model=lora)), copies(replace(run, model=lora))) == (0, 1)
    assert copies(replace(own, model=lora)) == pytest.approx(1.25, rel=1e-5)


def test_a_critic_that_does_not_fit_is_refused(huge: Run, tmp_path: Path) -> None:
    """The policy alone would fit anywhere."""
    large = CriticConfig(path=write_config(tmp_path / "large"))
    for runtime in (Run().runtime, Ray(learners=2)):
        run = replace(huge, model=Model(device="cpu"), objective=ppo, critic=large, runtime=runtime)
        check_memory(replace(run, critic=CriticConfig()))
        with pytest.raises(MemoryLimitError, match=r"with a critic 8.63e\+05 times as large[\s\S]*critic.kind=shared"):
            check_memory(run)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, huge: Run) -> dict[str, float]:
    """What devices have, in arrays as large as the weights of this model; the machine seems to have a GPU."""
    has = {"cpu": 1.0, "cuda": 1.0}
    one = sketch(huge.model)
    assert one is not None
    monkeypatch.setattr(footprint, "capacity", lambda device: int(has[device.type] * one.weights))
    for module in (footprint, rooms):
        monkeypatch.setattr(module, "choose_device", torch.device)
    return has


def test_only_the_first_learner_needs_room_for_the_whole_model(huge: Run, room: dict[str, float]) -> None:
    """Of 8, each will hold 5/8 of the weights; the first reads all of them and has its rows of two models."""
    many = replace(huge, runtime=Ray(learners=8))
    check_rank(many, 1)
    with pytest.raises(MemoryLimitError, match=r"x 1.25 \(the first learner, which reads them\)"):
        check_rank(many, 0)
    room["cpu"] = 1.25
    check_rank(many, 0)
    with pytest.raises(MemoryLimitError, match=r"x 2.5 \(a learner's share\)"):
        check_rank(huge, 1)


def test_processes_of_one_node_are_added_up(huge: Run, room: dict[str, float]) -> None:
    """Of 8 learners of 5/8 and 4 workers on a cluster that runs, a node has 2 of each."""
    many = replace(huge, runtime=Ray(learners=8, rollouts=4, address="auto"))
    room["cpu"] = 1.25
    check_rank(many, 0, learners=2)
    check_worker(many, learners=0, rollouts=1)
    with pytest.raises(MemoryLimitError, match=r"x 1.875 \(1.875 for the learners\)"):
        check_rank(many, 1, learners=3)
    room["cpu"] = 3.25
    check_worker(many, learners=2, rollouts=2)
    with pytest.raises(MemoryLimitError, match=r"x 3.875 \(1.875 for the learners, 2 for the rollout workers\)"):
        check_worker(many, learners=3, rollouts=2)
    apart = replace(many, model=replace(many.model, device="cuda"))
    check_rank(apart, 1, learners=8)  # each has a GPU of its own
    check_worker(apart, learners=8, rollouts=4)


def test_on_a_gpu_it_is_the_machine_that_needs_it(huge: Run, room: dict[str, float]) -> None:
    """Each of 8 GPUs has room for its share, and one of them for a rollout worker's whole policy."""
    many = replace(huge, model=replace(huge.model, device="cuda"), runtime=Ray(learners=8))
    assert reading(many) == 1
    check_memory(many)
    room["cuda"] = 0.7
    check_rank(many, 0)
    room["cpu"] = 0.9
    check_rank(many, 1)
    with pytest.raises(MemoryLimitError, match=r"x 1 \(the first learner, which reads them\)[\s\S]* GiB on cpu"):
        check_rank(many, 0)
    room["cuda"] = 1.0
    with pytest.raises(MemoryLimitError, match=r"which reads them"):
        check_memory(many)


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


def test_what_is_started_is_counted() -> None:
    assert Ray().counted() == "1 learner, 1 rollout worker on a cluster of this machine"
    assert Ray(learners=2, rollouts=3, scorers=1, address="auto").counted() == (
        "2 learners, 3 rollout workers, 1 scorer on the cluster that runs here"
    )
    assert Ray(address="10.0.0.1:6379").counted().endswith("on the cluster at 10.0.0.1:6379")
