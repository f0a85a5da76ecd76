"""One cluster of this machine for all tests that want one: it takes seconds to start, a run on it does not."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scoreline.backends.cluster.connect import PRIVATE, QUIET
from tests import parts
from tests.cluster.vllm_run import SHAPE

PLACES = 6
HEAD = f"""
import sys, ray
ray.init(include_dashboard=False, log_to_driver=False, num_cpus={PLACES})
print("ready at", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a cluster on loopback with six places, behind a token; it ends with the tests."""
    os.environ.update(QUIET | PRIVATE | {"RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"})
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_urlsafe(32))
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HEAD], **pipes) as head:
        assert head.stdout is not None
        told = next((line for line in head.stdout if line.startswith("ready at")), None)
        assert told is not None, "the cluster did not start"
        try:
            yield told.split()[-1]
        finally:
            head.communicate(timeout=60)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for vLLM, 50 MB of them, so that their way to a worker is long enough to be hit in the middle."""
    folder = tmp_path_factory.mktemp("model")
    parts.policy("llama", **SHAPE, tie_word_embeddings=True, max_position_embeddings=256).save(folder)
    return folder
