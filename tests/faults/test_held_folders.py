"""A run has its folder for itself, and leaves none where it did not begin."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scoreline.config.held import held
from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Run
from scoreline.errors import ConfigError

ROOT = Path(__file__).parents[2]
HOLDING = """
import sys
from pathlib import Path
from scoreline.config.held import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")


@pytest.mark.parametrize("way", [{"resume": True}, {"overwrite": True}])
def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path, way: dict[str, bool]) -> None:
    few = ["train.steps=1", "train.prompts_per_step=4", "eval.prompts=2", "eval.before=false", "name=a"]
    run = load(Run, [ROOT / "recipes/quickstart.toml"], [*few, f"folder={tmp_path}"])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path / "a")], **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == b"held\n"
        (tmp_path / "a" / "notes").touch()
        with pytest.raises(ConfigError, match=r"Another run is at work[\s\S]*set name="):
            train(run, **way)
        assert [file.name for file in (tmp_path / "a").iterdir()] == ["notes"], "nothing of it is touched"
        other.send_signal(signal.SIGKILL)
    assert (train(run, **way) / "summary.json").is_file()


def test_what_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    with held(tmp_path / "runs" / "a"):
        assert (tmp_path / "runs" / "a").is_dir()
    assert not list(tmp_path.iterdir())
    with held(tmp_path / "runs" / "a"):
        (tmp_path / "runs" / "a" / "log.txt").touch()
    assert (tmp_path / "runs" / "a" / "log.txt").is_file()


def test_a_place_that_takes_no_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(ConfigError, match=r"folder cannot be made[\s\S]*set folder="), held(tmp_path / "runs" / "a"):
        pass
