"""What the processes of a cluster print lies in the run's folder; what must stay secret does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scoreline.secret import known_secrets, masked

SPEAKS = """
import logging, os, sys
from pathlib import Path
from scoreline.backends.cluster.process import collect_output, telling

@telling
class Speaker:
    def fail(self):
        print(dict(os.environ))
        logging.getLogger("library").warning("a header with hf_abcdefghijklm")
        print("no line \\ud800 and", end=" ", flush=True)
        raise ValueError("Incorrect API key: " + os.environ["SOME_API_KEY"])

logging.getLogger("library").addHandler(logging.StreamHandler())
collect_output(Path(sys.argv[1]) / "workers" / "rollout-0.log")
try:
    Speaker().fail()
except ValueError:
    print("in the file: the-token-of-this-machine")
    os._exit(0)  # as a killed process does
"""


def test_tokens_and_keys_are_masked_in_the_log_of_a_process(tmp_path: Path) -> None:
    hidden = {
        "RAY_AUTH_TOKEN": "kTq-83_random-of-this-cluster",
        "SOME_API_KEY": "0123456789abcdef",
        "HF_TOKEN": "hf_nobodysees",
        "SERVICE_PASSWORD": "correct horse",
    }
    (tmp_path / "kept").write_text("the-token-of-this-machine\n")
    shown = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "kept"), "MAX_TOKEN": "1", "KEYS_SHOWN": "all of them"}
    told = [sys.executable, "-c", SPEAKS, str(tmp_path)]
    subprocess.run(told, env=os.environ | hidden | shown, check=True)
    text = (tmp_path / "workers/rollout-0.log").read_text()
    for name, value in hidden.items():
        assert f"'{name}': '***'" in text or f"'{name}': 'hf_***'" in text
        assert value not in text
    assert all(f"'{name}': '{value}'" in text for name, value in shown.items())
    assert "a header with hf_***\n" in text
    assert "no line \\ud800 and Traceback (most recent call last)" in text
    assert "ValueError: Incorrect API key: ***\n" in text
    assert text.endswith("in the file: ***\n")


def test_of_two_secrets_the_longer_one_goes_first() -> None:
    known = known_secrets({"A_TOKEN": "12345678", "A_KEY": "1234567890", "SHORT_KEY": "1234567"}, Path("no such file"))
    assert known == ["1234567890", "12345678"]
    assert masked("1234567890 and 12345678, not 1234567", known) == "*** and ***, not 1234567"
