"""The verbs of the command line. What is heavy is imported by the verb that needs it, so that help comes at once."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from scoreline.cli import comparing, doctor, insight, inspection, probing, training, using
from scoreline.cli.app import app

__all__ = ["app", "comparing", "doctor", "insight", "inspection", "main", "probing", "training", "using"]


def main() -> None:
    """The entry point `scoreline`. What a terminal's encoding lacks is shown as `?`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    app()
