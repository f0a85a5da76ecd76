from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from reports.runs import CONFIG, report, write_run

from scoreline.reports.curves import Curve, draw
from scoreline.reports.history import History, read_history
from scoreline.reports.record import Record


@pytest.fixture
def history(tmp_path: Path) -> History:
    write_run(tmp_path)
    return read_history(tmp_path)


def run_with(folder: Path, *rows: dict[str, float]) -> History:
    record = Record(folder)
    (folder / "config.resolved.toml").write_text(CONFIG)
    for step, metrics in enumerate(rows, start=1):
        record.report(report(step, **metrics))
    return read_history(folder)


def named(curves: tuple[Curve, ...], name: str) -> Curve:
    return next(curve for curve in curves if curve.name == name)


def words(svg: str) -> str:
    return " ".join(
        "".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")
    )


def test_one_panel_for_each_thing_that_was_measured(history: History) -> None:
    assert [curve.name for curve in draw(history)] == ["learning", "kl", "length", "time"]


def test_drawings_scale_and_carry_no_prolog_or_page_wide_names(history: History) -> None:
    for curve in draw(history):
        root = ElementTree.fromstring(curve.svg)
        assert curve.svg.startswith("<svg ")
        assert root.get("width") == "100%"
        assert root.get("height") is None
        assert root.get("viewBox")
        assert "figure_1" not in curve.svg
        assert "<metadata" not in curve.svg


def test_ids_of_different_drawings_do_not_meet(history: History) -> None:
    ids = [node.get("id") for curve in draw(history) for node in ElementTree.fromstring(curve.svg).iter()]
    named_ids = [name for name in ids if name]
    assert len(named_ids) == len(set(named_ids))


def test_lines_are_labelled_where_they_end(history: History) -> None:
    learning = words(named(draw(history), "learning").svg)
    assert all(label in learning for label in ("training", "sampled", "greedy", "step"))


def test_colours_are_variables_with_a_fallback(history: History) -> None:
    assert "var(--blue, #1f6f9f)" in named(draw(history), "learning").svg


def test_the_same_history_gives_the_same_bytes(history: History) -> None:
    assert draw(history) == draw(history)


def test_a_persons_own_settings_neither_change_the_drawing_nor_are_changed(history: History) -> None:
    expected = draw(history)
    with matplotlib.rc_context({"lines.linewidth": 9.0, "font.size": 30.0}):
        assert draw(history) == expected
        assert matplotlib.rcParams["lines.linewidth"] == 9.0


def test_values_that_are_missing_leave_gaps(tmp_path: Path) -> None:
    history = run_with(tmp_path, {"kl": float("nan")}, {"kl": 0.2}, {"kl": float("inf")}, {"entropy": 1.0})
    assert {"kl", "entropy"} <= {curve.name for curve in draw(history)}
    assert "nan" not in named(draw(history), "kl").svg.lower()


def test_beta_is_drawn_where_it_changes(tmp_path: Path) -> None:
    constant = run_with(tmp_path / "a", {"beta": 0.04}, {"beta": 0.04})
    adaptive = run_with(tmp_path / "b", {"beta": 0.04}, {"beta": 0.08})
    assert "beta" not in words(named(draw(constant), "kl").svg)
    assert "beta 0.08" in words(named(draw(adaptive), "kl").svg)


def test_beta_that_falls_to_zero_and_a_kl_of_zero(tmp_path: Path) -> None:
    history = run_with(tmp_path, {"beta": 0.04, "kl": 0.0}, {"beta": 0.0, "kl": 0.0})
    assert "beta 0" in words(named(draw(history), "kl").svg)


def test_every_phase_of_a_step_is_stacked(tmp_path: Path) -> None:
    phases = {"time/rollout": 0.2, "time/score": 0.05, "time/update": 0.1}
    text = words(named(draw(run_with(tmp_path, phases, phases)), "time").svg)
    assert all(phase in text for phase in ("rollout", "score", "update", "other"))
    assert "annotate" not in text


def test_the_critic_has_its_panel(tmp_path: Path) -> None:
    history = run_with(tmp_path, {"value/explained_variance": -0.5}, {"value/explained_variance": 0.8})
    assert named(draw(history), "critic").title == "Critic"


def test_steps_have_their_panels(tmp_path: Path) -> None:
    history = run_with(tmp_path, {"step_reward": 0.2, "steps/mean": 3.0}, {"step_reward": 0.4, "steps/mean": 3.5})
    names = [curve.name for curve in draw(history)]
    assert names[:3] == ["learning", "step_reward", "steps"]


def test_answers_without_a_step_are_drawn_only_where_there_are_any(tmp_path: Path) -> None:
    every = run_with(tmp_path / "a", {"steps/none": 0.0}, {"steps/none": 0.0})
    some = run_with(tmp_path / "b", {"steps/none": 0.0}, {"steps/none": 0.25})
    assert "no_steps" not in [curve.name for curve in draw(every)]
    assert named(draw(some), "no_steps").title == "Answers without a step"


def test_reward_functions_are_drawn_side_by_side_where_they_are_mixed(tmp_path: Path) -> None:
    one = run_with(tmp_path / "a", {"rewards/exact/mean": 0.5})
    mixed = {"rewards/exact/mean": 0.5, "step_rewards/a $very$ long name/mean": 0.25}
    two = run_with(tmp_path / "b", mixed, mixed)
    assert "functions" not in [curve.name for curve in draw(one)]
    text = words(named(draw(two), "functions").svg)
    assert "exact" in text
    assert "a $very$ lon…" in text


def test_a_single_step_and_no_step(history: History, tmp_path: Path) -> None:
    assert named(draw(run_with(tmp_path / "one", {})), "learning").svg
    assert draw(replace(history, metrics=(), evaluations=())) == ()


def test_a_judges_scores_do_not_press_the_accuracies_flat(history: History) -> None:
    def learning(reward: float, *, judged: bool) -> Curve:
        metrics = [{**row, "reward": reward} for row in history.metrics]
        rows = [{**row, "judged": 3.0} if judged else row for row in history.evaluations]
        return draw(replace(history, metrics=metrics, evaluations=rows))[0]

    assert ">training<" not in learning(3.5, judged=True).svg
    assert "training" not in learning(3.5, judged=True).caption
    assert ">training<" in learning(0.5, judged=True).svg
    assert ">training<" in learning(3.5, judged=False).svg


def test_a_cluster_has_its_panels(tmp_path: Path) -> None:
    calm = {"rollouts/utilisation": 0.4, "time/wait": 0.2, "time/sync": 0.1}
    still = calm | {"staleness/max": 0.0, "staleness/mean": 0.0, "rollouts/restarts": 0.0, "rollouts/dropped": 0.0}
    names = {curve.name for curve in draw(run_with(tmp_path / "calm", still, still))}
    assert {"rollouts", "waiting"} <= names
    assert not {"staleness", "replaced"} & names, "nothing happened"
    rough = calm | {"staleness/max": 2.0, "staleness/mean": 0.5, "rollouts/restarts": 1.0, "rollouts/dropped": 0.0}
    drawn = draw(run_with(tmp_path / "rough", still, rough))
    assert {"oldest", "mean"} <= set(words(named(drawn, "staleness").svg).split())
    assert "sampled again" in named(drawn, "replaced").caption
