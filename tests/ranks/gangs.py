"""Gangs of real processes: each runs `member.py`, and leaves a file with what it found."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def gang(what: str, world: int, folder: Path) -> list[dict[str, Any]]:
    """What each rank of a gang found; the last line of those that failed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    child = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    told = [sys.executable, str(ROOT / "tests/ranks/member.py"), what]
    commands = [[*told, *map(str, (rank, world, port, folder))] for rank in range(world)]
    started = [subprocess.Popen(c, env=child, stderr=subprocess.PIPE, text=True) for c in commands]
    said = [process.communicate(timeout=600)[1] for process in started]
    files = [folder / f"{what}-{world}-{rank}.json" for rank in range(world)]
    assert all(file.is_file() for file in files), "\n".join(text[-3000:] for text in said)
    return [json.loads(file.read_text()) for file in files]
