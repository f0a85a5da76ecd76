from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pytest
from reports.runs import LEARNED, evaluation, report, rollout, stepped

from scoreline.reports.console import Console, Meter


class Screen(io.StringIO):
    """A terminal that remembers what was written."""

    def isatty(self) -> bool:
        return True


class Narrow(io.TextIOWrapper):
    """A stream that knows ASCII only, as under LC_ALL=C."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_a_pipe_gets_one_plain_line_a_step() -> None:
    stream = io.StringIO()
    with Console(stream=stream, samples_every=0).training(12) as show:
        for step in (1, 2, 3):
            show(report(step))
    lines = stream.getvalue().splitlines()
    assert [line[:10] for line in lines] == ["step  1/12", "step  2/12", "step  3/12"]
    assert "reward 0.2000  kl 0.0200  length 4.0000  0.50 s" in lines[1]
    assert lines[1].endswith("left")
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_gets_a_bar_and_the_log_gets_the_lines(tmp_path: Path) -> None:
    screen, log = Screen(), tmp_path / "log.txt"
    console = Console(log=log, stream=screen, samples_every=0)
    with console.training(2) as show:
        show(report(1))
        console.message("evaluating ...")
        show(report(2))
    assert "\x1b[" in screen.getvalue()
    assert "evaluating ..." in screen.getvalue()
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line[21:].split("  ")[0] for line in lines] == ["step 1/2", "evaluating ...", "step 2/2"]


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("NO_COLOR", "1"), ("TERM", "dumb")])
def test_plain_lines_where_asked(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    screen = Screen()
    with Console(stream=screen, samples_every=0).training(1) as show:
        show(report(1))
    assert "\x1b" not in screen.getvalue()
    assert screen.getvalue().count("\n") == 1


def interrupted(console: Console) -> None:
    with console.progress("outer", 2) as outer, console.progress("inner", 2) as inner:
        inner(1, "half")
        outer()
        raise KeyboardInterrupt


def test_bars_may_be_nested_and_end_with_an_error() -> None:
    console = Console(stream=Screen())
    with pytest.raises(KeyboardInterrupt):
        interrupted(console)
    with console.progress("again", 1) as advance:
        advance()


def test_long_work_says_how_far_it_is_about_ten_times() -> None:
    stream = io.StringIO()
    with Console(stream=stream).progress("fine-tuning", 200) as advance:
        for _ in range(200):
            advance(1, "loss 0.5")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("fine-tuning  20/200  loss 0.5")


def test_a_resumed_run_counts_from_where_it_was() -> None:
    stream = io.StringIO()
    with Console(stream=stream, samples_every=0).training(10, done=6) as show:
        show(report(7))
    assert stream.getvalue().startswith("step  7/10")


@pytest.mark.parametrize(
    ("total", "done", "elapsed", "left"),
    [(10, 5, 5.0, "0:05 left"), (100, 1, 65.0, "1:47:15 left"), (4, 4, 9.0, "0:00 left"), (1, 0, 0.0, "0:00 left")],
)
def test_remaining_time(monkeypatch: pytest.MonkeyPatch, total: int, done: int, elapsed: float, left: str) -> None:
    monkeypatch.setattr("time.monotonic", lambda: elapsed)
    meter = Meter("work", total, 0, start=0.0)
    meter.advance(done)
    assert meter.left() == left


def test_samples_are_text_never_markup_and_controls_are_seen() -> None:
    stream = io.StringIO()
    answers = [
        rollout("[bold]11[/bold]\n\x1b[31m\u202e", 1.0),
        rollout("12", 0.5),
        rollout("13", 0.0),
        rollout("x", None),
    ]
    Console(stream=stream).samples(answers)
    best, worst = stream.getvalue().splitlines()
    assert best == "  +1.00  3+8= → [bold]11[/bold]␊␛[31m�"
    assert worst == "  +0.00  3+8= → 13"


def test_samples_come_with_the_first_step_and_every_nth() -> None:
    stream = io.StringIO()
    with Console(stream=stream, samples_every=3).training(6) as show:
        for step in range(1, 7):
            show(report(step))
    assert stream.getvalue().count("→ 11") == 3


def test_long_answers_are_cut() -> None:
    stream = io.StringIO()
    Console(stream=stream).samples([rollout("7" * 5000)])
    assert "… (4,800 more characters)" in stream.getvalue()
    assert len(stream.getvalue()) < 300


def test_an_ascii_stream_shows_what_it_can() -> None:
    stream = Narrow()
    Console(stream=stream).samples([rollout("漢字 11")])
    stream.seek(0)
    assert stream.read().strip() == "+1.00  3+8= ? ?? 11"


def test_evaluation_line() -> None:
    stream = io.StringIO()
    Console(stream=stream).evaluation(evaluation(20, 0.5))
    line = stream.getvalue()
    assert line.startswith("held-out at step 20  greedy 0.500 [0.450, 0.550]  avg@4 0.500 [0.450, 0.550]  pass@4")
    assert "length 5.0" in line


def test_evaluation_line_with_a_judge() -> None:
    stream = io.StringIO()
    Console(stream=stream).evaluation(evaluation(20, 0.5, judged=0.61, judge_accuracy=0.875))
    assert "  judged 0.610  judge accuracy 0.875  length 5.0  0.2 s" in stream.getvalue()
    Console(stream=stream).evaluation(evaluation(40, 0.5))
    assert "judge" not in stream.getvalue().splitlines()[1]


@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        (
            LEARNED,
            "round 2 ended  judge accuracy 0.7500, then 0.8750  loss 0.2500  calibration error 0.0625  "
            "1200 new examples, 120 replayed",
        ),
        ({"judge/examples": 0.0, "judge/tokens": 7.0}, "round 2 ended  0 new examples, 0 replayed"),
        ({}, "round 2 ended"),
    ],
)
def test_a_round_is_one_line(metrics: dict[str, float], line: str) -> None:
    stream = io.StringIO()
    Console(stream=stream).round(2, metrics)
    assert stream.getvalue().splitlines() == [line]


def test_a_step_with_rewarded_steps_says_their_mean() -> None:
    stream = io.StringIO()
    with Console(stream=stream, samples_every=0).training(2) as show:
        show(report(1, step_reward=0.25))
    assert "reward 0.1000  step reward 0.2500  kl" in stream.getvalue()


def test_samples_are_ordered_by_what_the_answer_and_its_steps_earned() -> None:
    stream = io.StringIO()
    good, bad = stepped(("a", 0.5), ("b", 1.0), total=None), stepped(("c", -0.5), total=0.25)
    Console(stream=stream).samples([bad, good])
    assert stream.getvalue().splitlines() == ["  +0.75  3+8= → ab", "  -0.25  3+8= → c"]


def test_a_warning_is_a_line_on_the_screen_and_in_the_log(tmp_path: Path) -> None:
    stream, log = io.StringIO(), tmp_path / "log.txt"
    Console(log=log, stream=stream).warning("3 of 8 answers have no step")
    assert stream.getvalue() == "warning: 3 of 8 answers have no step\n"
    assert log.read_text().endswith("  warning: 3 of 8 answers have no step\n")


def test_plain_python_warnings_become_lines_and_others_go_where_they_went() -> None:
    stream, before = io.StringIO(), warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        gone: list[str] = []
        warnings.showwarning = lambda message, *place, **rest: gone.append(str(message))
        with Console(stream=stream).warnings():
            warnings.warn("round 2 gave nothing to learn from", stacklevel=1)
            warnings.warn("a library is old", FutureWarning, stacklevel=1)
        warnings.warn("later", stacklevel=1)
    assert stream.getvalue() == "warning: round 2 gave nothing to learn from\n"
    assert gone == ["a library is old", "later"]
    assert warnings.showwarning is before


def test_scorelines_own_warnings_come_each_time() -> None:
    stream, seen = io.StringIO(), dict[str, Any]()
    with warnings.catch_warnings():
        warnings.resetwarnings()
        with Console(stream=stream).warnings():
            for place in ("scoreline.pool", "torch.nn", "scoreline.pool", "torch.nn"):
                registry = seen.setdefault(place, {})
                warnings.warn_explicit(f"{place}: lost", UserWarning, "it.py", 1, place, registry)
            warnings.filterwarnings("ignore", message=".*again")
            warnings.warn_explicit("and again", UserWarning, "it.py", 2, "scoreline.pool", {})
    assert stream.getvalue().splitlines() == [
        "warning: scoreline.pool: lost",
        "warning: torch.nn: lost",
        "warning: scoreline.pool: lost",
    ]


def test_the_log_masks_tokens_and_dates_every_line(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    Console(log=log, stream=io.StringIO()).message("using hf_abcdefghijk and\nsk-proj-123456789 but not risk-taking")
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line[21:] for line in lines] == ["using hf_*** and", "sk-*** but not risk-taking"]
    assert all(line[4] == line[7] == "-" and line[13] == ":" for line in lines)


def test_runs_move_a_bar_by_shares_and_say_how_they_ended() -> None:
    stream = io.StringIO()
    with Console(stream=stream).runs(3, done=1) as advance:
        advance(0.5)
        assert stream.getvalue() == ""
        advance(0.5, "grpo-0 done, 4 s")
        advance(1.0, "grpo-1 failed, exit 2: it broke, 1 s")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("run 2/3  grpo-0 done, 4 s")
    assert lines[1].startswith("run 3/3  grpo-1 failed")


def test_a_budget_of_tokens_tells_how_many_steps_there_will_be() -> None:
    stream = io.StringIO()
    with Console(stream=stream, samples_every=0).training(10_000, max_tokens=100) as show:
        show(report(1, num_tokens=20.0))
        show(report(2, num_tokens=60.0))
    assert [line.split("  ")[0] for line in stream.getvalue().splitlines()] == ["step 1/5", "step 2/4"]


def test_runs_on_a_terminal_are_a_bar() -> None:
    screen = Screen()
    with Console(stream=screen).runs(2) as advance:
        advance(0.4)
        advance(0.6, "grpo-0 done, 4 s")
    assert "\x1b[" in screen.getvalue()
    assert "run 1/2  grpo-0 done, 4 s" in screen.getvalue()


def test_a_cluster_is_spoken_of_where_it_is_worth_it() -> None:
    stream = io.StringIO()
    with Console(stream=stream, samples_every=0).training(2) as show:
        show(report(1, **{"time/wait": 0.04, "time/sync": 0.01, "rollouts/restarts": 0.0}))
        show(report(2, **{"time/wait": 0.2, "time/sync": 0.06, "rollouts/restarts": 1.0, "rollouts/dropped": 8.0}))
    calm, rough = stream.getvalue().splitlines()
    assert "0.50 s  0:0" in calm, "less than a tenth of the step"
    assert "0.50 s  waiting 40%  weights 12%  1 replaced  8 answers too old" in rough
