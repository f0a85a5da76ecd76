"""The verb `label` makes rows that judges can read, goes on where it was killed, and says why there are none."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scoreline.config.dump import dump
from scoreline.config.label import LabelRun, label
from scoreline.config.load import load
from scoreline.config.session import Interrupted
from scoreline.config.tally import Tally
from scoreline.environments.preferences import load_labelled, load_pairs
from scoreline.environments.prompts import Data
from scoreline.environments.rewards import RewardSpec
from scoreline.environments.steps import Splitter
from scoreline.errors import CheckpointError, ConfigError, DataError, RewardError
from scoreline.models.policy import Model
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import Local
from tests import parts

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*/*.toml") if path.stem in ("pairs", "step_labels"))


@pytest.fixture
def small(tmp_path: Path) -> LabelRun:
    """Eight questions to the embedded model."""
    return LabelRun(
        name="small",
        folder=str(tmp_path / "runs"),
        model=Model(device="cpu"),
        data=Data(held_out=200),
        reward=(RewardSpec("arithmetic_answer"),),
        steps=Splitter("pattern", at=";"),
        sampling=Sampling(max_completion_length=32),
        prompts=8,
        continuations=4,
    )


@pytest.fixture
def untrained(tmp_path: Path, small: LabelRun) -> LabelRun:
    parts.policy().save(tmp_path / "model")
    sampling = Sampling(max_completion_length=6)
    return replace(small, model=Model(path=str(tmp_path / "model"), device="cpu"), sampling=sampling)


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return read


def is_right(text: str, row: dict[str, Any]) -> bool:
    return bool(text.rpartition("#")[2] == row["answer"])


def test_pairs_are_right_over_wrong_and_keep_the_columns(small: LabelRun) -> None:
    folder = label(replace(small, kind="pairs", most=2))
    made = rows(folder, "pairs.jsonl")
    assert len(made) > 4
    for row in made:
        assert row["prompt"] == f"{row['expression']}="
        assert is_right(row["chosen"], row)
        assert not is_right(row["rejected"], row)
    assert max(Counter(row["prompt_id"] for row in made).values()) <= 2
    assert not (folder / "steps.jsonl").exists()


def test_steps_are_whole_answers_with_a_label_each(small: LabelRun) -> None:
    made = rows(label(small), "steps.jsonl")
    for row in made:
        answer = "".join(row["completions"])
        assert len(row["completions"]) == len(row["labels"]) == answer.count(";") + 1
        assert row["labels"][-1] == float(is_right(answer, row))
        assert all(4 * value in range(5) for value in row["labels"])
    assert max(len(row["labels"]) for row in made) > 1
    assert len({(row["prompt_id"], *row["completions"]) for row in made}) == len(made)


def test_judges_can_read_the_rows(small: LabelRun) -> None:
    steps = label(small) / "steps.jsonl"
    labelled = load_labelled(Data(source=str(steps)))
    assert [list(row.labels) for row in labelled] == [row["labels"] for row in rows(steps.parent, "steps.jsonl")]
    chosen = label(replace(small, name="pairs", kind="pairs")) / "pairs.jsonl"
    pairs = load_pairs(Data(source=str(chosen)))
    assert [pair.chosen for pair in pairs] == [row["chosen"] for row in rows(chosen.parent, "pairs.jsonl")]


def test_the_summary_counts_what_is_in_the_file(small: LabelRun) -> None:
    folder = label(small)
    made, told = rows(folder, "steps.jsonl"), summary(folder)
    labels = [value for row in made for value in row["labels"]]
    assert told["rows"] == len(made)
    assert told["label_mean"] == pytest.approx(sum(labels) / len(labels))
    assert (told["prompts"], told["answers"]) == (8, 64)
    assert 0 < told["right"] < 1
    assert told["tokens"] > 64 * 3
    folder = label(replace(small, name="pairs", kind="pairs"))
    used = len({row["prompt_id"] for row in rows(folder, "pairs.jsonl")})
    assert summary(folder)["prompts_without_rows"] == pytest.approx(1 - used / 8)


def test_held_out_questions_are_never_used(small: LabelRun) -> None:
    few = replace(small, data=Data(size=12, held_out=6), prompts=None, num_generations=2, continuations=1)
    made = rows(label(few), "steps.jsonl")
    assert len({row["prompt_id"] for row in made}) == 6


def test_a_step_checker_labels_without_continuations(small: LabelRun) -> None:
    checker = (RewardSpec("arithmetic_steps"),)
    folder = label(replace(small, by="checker", step_reward=checker, prompts=16))
    made = rows(folder, "steps.jsonl")
    assert made
    for row in made:
        for step, value in zip(row["completions"], row["labels"], strict=True):
            terms, _, result = step.rstrip(";").partition("#")[0].partition("=")
            assert value == float(sum(map(int, terms.split("+"))) == int(result))
    assert summary(folder)["answers_without_labels"] > 0  # a guess says no equation


def test_labels_of_a_checker_are_shares(small: LabelRun) -> None:
    heavy = replace(small, by="checker", step_reward=(RewardSpec("arithmetic_steps", weight=2.0),))
    with pytest.raises(RewardError, match=r"step 1 of an answer to prompt train:\d+ is no label[\s\S]*got: +2"):
        label(heavy)


def test_the_same_recipe_makes_the_same_bytes(small: LabelRun) -> None:
    first, again, other = (
        label(replace(small, name=name, seed=seed)) for name, seed in zip("abc", (0, 0, 1), strict=True)
    )
    assert (first / "steps.jsonl").read_bytes() == (again / "steps.jsonl").read_bytes()
    assert (first / "steps.jsonl").read_bytes() != (other / "steps.jsonl").read_bytes()


def test_messages_stay_messages(small: LabelRun, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "3+8+12="}]
    (tmp_path / "q.jsonl").write_text(json.dumps({"prompt": turns, "answer": "23"}) + "\n", encoding="utf-8")
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    told = replace(small, data=Data(source=str(tmp_path / "q.jsonl"), held_out=0))
    made = rows(label(replace(told, model=Model(device="cpu", chat_template=template))), "steps.jsonl")
    assert made[0]["prompt"] == turns
    assert made[0]["answer"] == "23"


def go(folder: Path, kind: str, *kill: object) -> int:
    told = [sys.executable, str(ROOT / "tests/config/label_victim.py"), str(folder / "model"), str(folder), kind]
    done = subprocess.run([*told, *map(str, kill)], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a signal of Unix")
@pytest.mark.parametrize(("kind", "kills"), [("steps", [("rows", 9), ("state", 4)]), ("pairs", [("generation", 25)])])
def test_killed_and_resumed_is_never_stopped(tmp_path: Path, kind: str, kills: list[tuple[str, int]]) -> None:
    for name in ("whole", "killed"):
        parts.policy().save(tmp_path / name / "model")
    assert go(tmp_path / "whole", kind) == 0
    for phase, number in kills:
        assert go(tmp_path / "killed", kind, phase, number) == -signal.SIGKILL, f"{phase} was not reached"
    assert go(tmp_path / "killed", kind) == 0
    whole, killed = tmp_path / "whole" / "victim", tmp_path / "killed" / "victim"
    assert (killed / f"{kind}.jsonl").read_bytes() == (whole / f"{kind}.jsonl").read_bytes()
    assert {**summary(killed), "wall_s": 0} == {**summary(whole), "wall_s": 0}
    assert len(rows(whole, f"{kind}.jsonl")) > 20


def test_ctrl_c_says_how_to_go_on(small: LabelRun, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = replace(small, engine=Local(32))
    whole = label(replace(batches, name="whole"))
    plus = Tally.plus

    def pressed(self: Tally, *done: Any) -> Tally:
        if self.prompts:
            raise KeyboardInterrupt
        return plus(self, *done)

    with monkeypatch.context() as patch:
        patch.setattr(Tally, "plus", pressed)
        with pytest.raises(Interrupted, match="--resume goes on") as caught:
            label(batches)
    assert caught.value.code == 130
    folder = label(batches, resume=True)
    assert (folder / "steps.jsonl").read_bytes() == (whole / "steps.jsonl").read_bytes()


def test_how_far_it_is_can_be_seen(small: LabelRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = label(replace(small, engine=Local(32)))
    shown = capsys.readouterr().out
    assert re.search(r"labelling small 4/8  \d+ rows  right 0\.\d+  label 0\.\d+  \d:\d\d left", shown)
    assert shown.splitlines()[-1] in (folder / "log.txt").read_text(encoding="utf-8")


def test_a_finished_run_that_is_resumed_stays_as_it_is(small: LabelRun) -> None:
    folder = label(small)
    before = (folder / "steps.jsonl").read_bytes(), summary(folder)
    label(small, resume=True)
    assert ((folder / "steps.jsonl").read_bytes(), summary(folder)) == before


def test_an_existing_name_is_refused(small: LabelRun) -> None:
    folder = label(replace(small, kind="pairs"))
    with pytest.raises(ConfigError, match=r"name exists[\s\S]*--resume or --overwrite"):
        label(small)
    label(small, overwrite=True)
    assert (folder / "steps.jsonl").exists()
    assert not (folder / "pairs.jsonl").exists()


def test_another_recipe_does_not_go_on(small: LabelRun) -> None:
    label(small)
    with pytest.raises(ConfigError, match=r"not the one that this run began with[\s\S]*another continuations"):
        label(replace(small, continuations=2), resume=True)


def test_lost_rows_are_noticed(small: LabelRun) -> None:
    folder = label(small)
    (folder / "steps.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"lost rows[\s\S]*got: +0 in"):
        label(small, resume=True)


def test_no_pair_at_all(untrained: LabelRun) -> None:
    with pytest.raises(DataError, match=r"no pair[\s\S]*64 answers to 8 questions: 0\.000 right, 1\.000 wrong"):
        label(replace(untrained, kind="pairs"))


def test_no_step_at_all(untrained: LabelRun) -> None:
    nowhere = Splitter("pattern", at="never", tail=False)
    with pytest.raises(DataError, match=r"No answer has steps[\s\S]*64 without a step"):
        label(replace(untrained, steps=nowhere))
    with pytest.raises(RewardError, match=r"64 of 64 answers have no step, first one to prompt 'train:\d+'"):
        label(replace(untrained, steps=replace(nowhere, none="error")), overwrite=True)


def test_answers_without_a_step_are_counted(small: LabelRun, capsys: pytest.CaptureFixture[str]) -> None:
    folder = label(replace(small, steps=Splitter("pattern", at=";", tail=False)))
    count = summary(folder)["answers_without_steps"]
    assert 0 < count < 64
    assert f"{count} of 64 answers have no step" in capsys.readouterr().out
    assert all(len(row["labels"]) == "".join(row["completions"]).count(";") for row in rows(folder, "steps.jsonl"))


def test_no_checker(small: LabelRun) -> None:
    with pytest.raises(ConfigError, match="There is no reward"):
        label(replace(small, reward=()))
    assert not (Path(small.folder) / small.name).exists()


def test_a_checker_without_its_column(small: LabelRun, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"prompt": "3+8="}\n', encoding="utf-8")
    with pytest.raises(RewardError, match=r"wants 'answer', and prompt 'train:0' has no such column"):
        label(replace(small, data=Data(source=str(tmp_path / "q.jsonl"), held_out=0)))
    assert not (Path(small.folder) / small.name).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"by": "checker"}, "need step rewards"),
        ({"step_reward": (RewardSpec("arithmetic_steps"),)}, "need step rewards"),
        ({"kind": "pairs", "num_generations": 1}, "needs two answers"),
        ({"sampling": Sampling(temperature=0.0)}, "temperature above 0"),
    ],
)
def test_what_cannot_make_rows_is_refused(small: LabelRun, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        label(replace(small, **change))
    assert not (Path(small.folder) / small.name).exists()


@pytest.mark.parametrize("name", ["prompts", "num_generations", "continuations", "most"])
def test_counts_are_at_least_one(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is too small"):
        LabelRun(**{name: 0})


def test_the_resolved_recipe_is_the_run(small: LabelRun) -> None:
    folder = label(small)
    assert load(LabelRun, [folder / "config.resolved.toml"]) == small
    assert dump(small) == (folder / "config.resolved.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recipes_are_read(recipe: Path) -> None:
    assert load(LabelRun, [recipe]).file == {"pairs": "pairs.jsonl", "step_labels": "steps.jsonl"}[recipe.stem]


@pytest.mark.parametrize(("recipe", "makes"), [("pairs", "pairs/pairs.jsonl"), ("step_labels", "steps/steps.jsonl")])
def test_laptop_recipes_make_what_the_judges_recipes_read(recipe: str, makes: str) -> None:
    run = load(LabelRun, [ROOT / "recipes" / "laptop" / f"{recipe}.toml"])
    assert Path(run.folder, run.name, run.file) == Path("runs") / makes


def test_there_are_recipes_for_both_machines() -> None:
    assert len(RECIPES) == 4
