"""The verbs of the command line. What is heavy is imported by the verb that needs it, so that help comes at once."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from scoreline.cli.app import app
from scoreline.cli.comparing import compare
from scoreline.cli.doctor import doctor
from scoreline.cli.insight import report
from scoreline.cli.inspection import inspect
from scoreline.cli.probing import probe
from scoreline.cli.training import train
from scoreline.cli.using import evaluate

__all__ = ["app", "compare", "doctor", "evaluate", "inspect", "main", "probe", "report", "train"]


def main() -> None:
    """The entry point `scoreline`. What a terminal's encoding lacks is shown as `?`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    app()
