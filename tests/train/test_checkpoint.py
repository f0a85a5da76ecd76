"""A visible checkpoint is never broken, whatever happens while it is written."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scoreline.errors import CheckpointError
from scoreline.objectives.zoo import grpo
from scoreline.train.checkpoint import Checkpoints, damage, write_whole
from scoreline.train.learner import LocalLearner
from tests import parts

WRITER = """
import sys, itertools
from pathlib import Path
from scoreline.train.checkpoint import Checkpoints, write_whole, discard
folder = Checkpoints(Path(sys.argv[1]), keep=2)
first = int(sys.argv[2])
for step in itertools.count(first):
    def fill(path):
        for i in range(8):
            (path / f"part-{i}").write_bytes(bytes([step % 256]) * 20000)
    write_whole(folder.folder / f"step-{step:06d}", fill)
    print(step, flush=True)
    for old in folder.steps()[:-2]:
        discard(old)
"""


@pytest.fixture
def learner() -> LocalLearner:
    return LocalLearner(parts.policy(), grpo, reference=None)


def test_no_kill_leaves_a_broken_checkpoint_or_loses_an_acknowledged_one(tmp_path: Path) -> None:
    """Ten processes are killed at random moments while they write, rename and prune."""
    chance = random.Random(0)
    acknowledged = 0
    for _ in range(10):
        told = [sys.executable, "-c", WRITER, str(tmp_path), str(acknowledged + 1)]
        with subprocess.Popen(told, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            acknowledged = int(writer.stdout.readline() or acknowledged)
            time.sleep(chance.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
        kept = Checkpoints(tmp_path).steps()
        assert [damage(path) for path in kept] == [None] * len(kept)
        assert int(kept[-1].name[5:]) >= acknowledged
        Checkpoints(tmp_path).sweep()
        assert {path.name[:4] for path in tmp_path.iterdir()} == {"step"}


def test_the_newest_whole_checkpoint_wins_and_a_damaged_one_is_passed_over(
    tmp_path: Path, learner: LocalLearner
) -> None:
    kept = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3, 4):
        kept.save(step, learner, {"step": step})
    assert [path.name for path in kept.steps()] == ["step-000002", "step-000003", "step-000004"]
    weights = kept.steps()[-1] / "hf" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.warns(UserWarning, match=r"step-000004 is damaged \(hf/model.safetensors has changed\)"):
        newest = kept.newest()
    assert newest is not None
    assert newest.name == "step-000003"
    assert kept.restore(newest, learner) == {"step": 3}


@pytest.mark.parametrize("broken", ["manifest.json", "state.json", "optimizer.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, learner: LocalLearner, broken: str) -> None:
    path = Checkpoints(tmp_path).save(1, learner, {})
    (path / broken).unlink()
    with pytest.raises(CheckpointError, match=rf"not what its manifest says[\s\S]*{broken}"):
        Checkpoints(tmp_path).restore(path, learner)


def test_no_space_left_stops_with_a_reason_and_keeps_the_last_checkpoint(tmp_path: Path, learner: LocalLearner) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(1, learner, {})

    def fill(folder: Path) -> None:
        (folder / "half").write_bytes(b"x" * 1000)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CheckpointError, match=r"could not be written[\s\S]*No space left[\s\S]*--resume"):
        write_whole(tmp_path / "step-000002", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert damage(tmp_path / "step-000001") is None


FULL = """
import resource, signal, sys
from pathlib import Path
from scoreline.errors import CheckpointError
from scoreline.objectives.zoo import grpo
from scoreline.train.checkpoint import Checkpoints
from scoreline.train.learner import LocalLearner
from tests import parts
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
learner = LocalLearner(parts.policy(), grpo)
kept = Checkpoints(Path(sys.argv[1]))
kept.save(1, learner, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    kept.save(2, learner, {})
except CheckpointError as error:
    print(error)
print([path.name for path in kept.folder.iterdir()])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as Unix does")
def test_a_file_that_cannot_grow_is_the_same_error(tmp_path: Path) -> None:
    """The weights hit a limit of the system half-way, as on a full disk."""
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], cwd=root, text=True, capture_output=True)
    assert "could not be written" in out.stdout, out.stderr
    assert "['step-000001']" in out.stdout


def test_planted_pickles_are_never_run(tmp_path: Path, learner: LocalLearner) -> None:
    """A pickle that would write a file, in place of every file of a checkpoint in turn, manifest corrected."""
    import pickle

    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(trap),))

    kept = Checkpoints(tmp_path / "run")
    for name in ("optimizer.safetensors", "rng.safetensors", "state.json", "hf/model.safetensors", "hf/config.json"):
        path = kept.save(1, learner, {})
        (path / name).write_bytes(pickle.dumps(Trap()))
        from scoreline.train.checkpoint import manifest

        (path / "manifest.json").write_text(json.dumps(manifest(path)))
        with pytest.raises(Exception):  # noqa: B017, PT011 - whichever reader meets it first refuses
            kept.restore(path, learner)
        assert not trap.exists()
