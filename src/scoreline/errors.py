"""Errors for people: what happened, what was got, what is accepted, what to do.

Every error that a user can cause is a `ScorelineError`. The command line prints its text without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ScorelineError(Exception):
    """The base of all errors that say what to do: `what` happened, `got` this, `accepted` is that, `todo` helps."""

    def __init__(self, what: str, *, got: object = None, accepted: str = "", todo: str = "") -> None:
        lines = [what]
        lines += [f"  got:      {got}"] if got is not None else []
        lines += [f"  accepted: {accepted}"] if accepted else []
        lines += [f"  to do:    {todo}"] if todo else []
        super().__init__("\n".join(lines))


class ConfigError(ScorelineError):
    """A recipe or a `key=value` that cannot be used."""


class DataError(ScorelineError):
    """Prompts that are missing, broken or too long; names the file and the row."""


class RewardError(ScorelineError):
    """A reward function that raised, hung or returned something that is not a list of numbers; names it and the row."""


class ModelError(ScorelineError):
    """A model folder or id that cannot be loaded as what it should be."""


class ObjectiveError(ScorelineError):
    """A combination of parts that would silently do something else than it says."""


class CheckpointError(ScorelineError):
    """A run folder or checkpoint that cannot be written, read or trusted."""


class EngineError(ScorelineError):
    """An engine that is missing, cannot run the model, or samples from another policy than the learner's."""


class ClusterError(ScorelineError):
    """A cluster that cannot be reached or used, or processes of it that died too often."""


class GangLostError(ClusterError):
    """A learner rank died or hangs: the ranks hold the model together, so all start again from a checkpoint."""


class DivergenceError(ScorelineError):
    """Training stopped because loss or gradient stayed non-finite."""


class MemoryLimitError(ScorelineError):
    """A model or a step that does not fit into memory, after everything that could be lowered was lowered."""


def suggest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'grpo'?`, or the list of what is known when nothing is close."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "one of: " + ", ".join(names)
