"""How much memory there is, under every kind of limit, and what its end looks like."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scoreline.errors import MemoryLimitError
from scoreline.models.memory import _groups, available, capacity, held, memory_told, out_of_memory

CPU = torch.device("cpu")


def test_available_is_less_than_all() -> None:
    free, whole = available(CPU), capacity(CPU)
    assert free is not None
    assert whole is not None
    assert 0 < free <= whole
    assert 0 < held(CPU) < whole


def written(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)


def test_a_control_group_of_version_2_and_the_one_around_it(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_text("0::/outer/inner\n")
    written(tmp_path / "outer" / "inner", memory__max="max\n", memory__current="5\n", memory__stat="inactive_file 1\n")
    written(
        tmp_path / "outer", memory__max="1000\n", memory__current="400\n", memory__stat="anon 1\ninactive_file 100\n"
    )
    assert list(_groups(tmp_path, told)) == [(1000, 300)]


def test_a_control_group_of_version_1(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_text("9:name=systemd:/\n4:memory:/job\n0::/\n")
    names = {"memory__limit_in_bytes": "900", "memory__usage_in_bytes": "500"}
    written(tmp_path / "memory" / "job", **names, memory__stat="total_inactive_file 200\n")
    assert list(_groups(tmp_path, told)) == [(900, 300)]


REAL = """
import resource, sys, torch
from scoreline.models.memory import available, out_of_memory
cpu = torch.device("cpu")
before = available(cpu)
import re
mapped = int(re.findall(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[0]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**28, -1))
assert available(cpu) <= 2**28 < before, (available(cpu), before)
for work in (lambda: torch.empty(2**30), lambda: bytearray(2**30)):
    try:
        work()
    except BaseException as error:
        assert out_of_memory(error), repr(error)
    else:
        sys.exit("there was room")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is enforced on Linux")
def test_a_real_limit_is_seen_and_its_errors_are_known() -> None:
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_other_errors_are_not_memory() -> None:
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(ValueError("out of memory"))


def test_memory_that_runs_out_elsewhere_says_what_to_do() -> None:
    with pytest.raises(MemoryLimitError, match=r"Memory ran out[\s\S]*--dry-run[\s\S]*engine.rows"), memory_told():
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="invalid"), memory_told():
        torch.empty(3).view(2)
