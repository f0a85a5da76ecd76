"""A network, a table of processes and a home of one's own: clusters start and end there, and nobody else's is touched.

Linux alone has such namespaces, and not every machine lets a process make them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/quickstart.toml"
TOKEN = "a-token-for-this-test-alone-0123456789"
UNSHARE = [
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--pid",
    "--mount",
    "--fork",
    "--kill-child",
    "--mount-proc",
]
SMALL = (
    "train.steps=2 train.prompts_per_step=4 train.num_generations=4 train.minibatches=1 data.held_out=8 eval.prompts=4"
)
"""Settings that make the quickstart a matter of seconds."""
OUTSIDE = """
set -euo pipefail
ip link set lo up
ip link add outside0 type veth peer name outside1
ip addr add 10.77.0.9/24 dev outside0
ip link set outside0 up
"""
"""An interface that another machine could reach, beside the loopback."""


def possible() -> bool:
    """Whether this machine lets us make one."""
    if not all(shutil.which(name) for name in ("unshare", "ip", "bash")):
        return False
    made = subprocess.run([*UNSHARE, "bash", "-c", OUTSIDE], capture_output=True, check=False)
    return made.returncode == 0


needs_island = pytest.mark.skipif(not possible(), reason="needs namespaces of its own (unshare, ip)")


def on_island(script: str, timeout: float = 580.0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash there, with `$PYTHON`, `$RECIPE` and `$SMALL`; what it leaves running ends with it."""
    with tempfile.TemporaryDirectory(prefix="island", dir="/tmp", ignore_cleanup_errors=True) as home:  # short
        told = {
            "HOME": home,
            "RAY_TMPDIR": home,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "RECIPE": str(RECIPE),
            "SMALL": SMALL,
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
        }
        return subprocess.run(
            [*UNSHARE, "bash", "-c", OUTSIDE + script],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | told | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
