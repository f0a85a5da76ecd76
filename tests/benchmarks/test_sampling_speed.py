"""The sampling benchmark: our side and transformers' on the embedded model, and the protocol of vLLM's process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from samplers import ask, surroundings
from sampling import Speed, main, speed, table, turns

CHILD = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"tokens": 2 * json.loads(line)["turn"]}), flush=True)
    if "last" in line:
        break
"""


def test_our_side_and_generate_take_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made" / "figures.json"
    told = ["--workload", "tiny", "--model", "tiny:init", "--shapes", "1x2", "--repetitions", "1"]
    main([*told, "--device", "cpu", "--peers", "dynamic", "static", "--json", str(out)])
    written = json.loads(out.read_text(encoding="utf-8"))
    compared = written["comparisons"][0]
    names = [side["name"] for side in compared["speeds"]]
    assert names == ["Scoreline", "transformers generate, dynamic cache", "transformers generate, static cache"]
    assert all(len(side["each"]) == 1 and side["median"] > 0 for side in compared["speeds"])
    assert (written["kind"], compared["shape"], compared["budget"]) == ("sampling", "1x2", 32)
    assert "| Scoreline |" in capsys.readouterr().out


def test_sides_alternate_and_the_first_time_does_not_count() -> None:
    asked: list[tuple[str, int]] = []

    def side(name: str, seconds: float):
        def turn(seed: int) -> tuple[float, int]:
            asked.append((name, seed))
            return (9.0 if seed == 0 else seconds), 100

        return turn

    found = turns({"Scoreline": side("a", 1.0), "other": side("b", 4.0)}, repetitions=2)
    assert asked == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert found == [Speed("Scoreline", 100.0, [100.0, 100.0], 9.0), Speed("other", 25.0, [25.0, 25.0], 9.0)]
    assert "| other | 25 | 4.00 | 9.0 |" in table("x", found)


def test_speed_is_the_median_of_tokens_by_seconds() -> None:
    assert speed("a", [(100.0, 1), (1.0, 10), (2.0, 60), (1.0, 20)]).median == 20


def test_vllm_without_its_python_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--peers", "vllm"])
    assert "--vllm" in capsys.readouterr().err


def test_a_process_answers_line_by_line_and_its_end_is_noticed() -> None:
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert ask(child, {"turn": 3}) == {"tokens": 6}
        assert ask(child, {"turn": 4, "last": 1}) == {"tokens": 8}
        child.wait()
        with pytest.raises(SystemExit, match="has ended"):
            ask(child, {"turn": 5})


def test_vllm_gets_as_many_cores_as_we_have_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    found = surroundings(1)
    assert found["OMP_NUM_THREADS"] == "1"
    assert "," not in found.get("VLLM_CPU_OMP_THREADS_BIND", "0")
    assert "PYTHONPATH" not in found
