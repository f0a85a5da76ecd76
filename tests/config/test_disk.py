"""Whether a run's checkpoints fit on its disk is known before a model is loaded."""

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from scoreline.config.disk import check_disk, checkpoint_bytes, kept, written
from scoreline.config.launch import train
from scoreline.config.load import load
from scoreline.config.run import Checkpoint, Eval, Run
from scoreline.errors import CheckpointError
from scoreline.models.adapters import Lora
from scoreline.models.critic import CriticConfig
from scoreline.objectives.zoo import ZOO

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.toml"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    few = ["train.steps=4", "train.prompts_per_step=4", "eval.prompts=4", "checkpoint.every=1", "name=a"]
    return load(Run, [QUICKSTART], [*few, f"folder={tmp_path}"])


def on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_the_estimate_is_what_a_checkpoint_takes(run: Run, algorithm: str) -> None:
    """The embedded model's tokenizer and the state of the loop are the rest: 5 per cent at most."""
    run = replace(run, algorithm=algorithm, objective=ZOO[algorithm])
    folder = train(run)
    took = on_disk(folder / "checkpoints" / "step-000004")
    assert checkpoint_bytes(run) <= took <= 1.05 * checkpoint_bytes(run)
    assert len(list((folder / "checkpoints").iterdir())) == kept(run) == 3 < written(run)


def test_what_is_counted(run: Run) -> None:
    weights = checkpoint_bytes(run) // 3
    assert checkpoint_bytes(replace(run, train=replace(run.train, optimizer="adamw_8bit"))) == 1.5 * weights
    ppo = replace(run, objective=ZOO["ppo"])
    assert checkpoint_bytes(ppo) == checkpoint_bytes(replace(ppo, critic=CriticConfig(path="tiny"))) == 6 * weights
    assert checkpoint_bytes(replace(ppo, critic=CriticConfig(kind="shared"))) == 3 * weights
    assert checkpoint_bytes(replace(run, rounds=replace(run.rounds, count=2))) == 4 * weights
    assert checkpoint_bytes(replace(run, model=replace(run.model, lora=Lora(rank=2)))) == 0


def test_how_many_are_there(run: Run) -> None:
    def counts(every: int, keep: int, best: str | None, measured: int = 0) -> tuple[int, int]:
        told = replace(run, checkpoint=Checkpoint(every, keep, best), eval=Eval(every=measured))  # type: ignore[arg-type]
        return kept(told), written(told)

    assert counts(0, 2, None) == (1, 1), "the last one alone"
    assert counts(0, 2, "avg@k") == (2, 2)
    assert counts(2, 2, None) == (2, 2)
    assert counts(1, 2, None) == (2, 4)
    assert counts(1, 1, "avg@k", measured=1) == (2, 8)


def test_a_disk_without_room_is_refused_and_one_that_frees_it_is_not(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, 4 * checkpoint_bytes(run) - 1))
    with pytest.raises(CheckpointError, match=r"of the run cannot fit[\s\S]*free at [\s\S]*lower checkpoint.keep"):
        train(run)
    assert not (tmp_path / "a").exists()
    older = tmp_path / "a" / "checkpoints" / "step-000001" / "hf"
    older.mkdir(parents=True)
    (older / "model.safetensors").write_bytes(b"x")
    check_disk(run)


def test_several_runs_need_the_sum_of_what_they_keep(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three each stay, and one is in writing."""
    room = 7 * checkpoint_bytes(run)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, room - 1))
    check_disk(run)
    with pytest.raises(CheckpointError, match="of 2 runs cannot fit"):
        check_disk(run, replace(run, name="b"))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, room))
    check_disk(run, replace(run, name="b"))
