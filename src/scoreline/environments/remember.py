"""A judge that reads a text once: what it said of an answer is kept in the run's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scoreline.environments.verify import RewardFunction


class Remembered:
    """Asked again about the same prompt and answer, also after a resume, it gives the score that it gave before.

    `kind` says what the judge reads, "outcome" the completions, "process" their steps. `version` counts the times that
    the judge has learned: what an earlier version said counts no more. The file has one line a call, so that a killed
    run leaves all of a call or nothing of it, and goes on with the same batches.
    """

    def __init__(self, judge: RewardFunction, kind: str, file: Path) -> None:
        self.judge, self.file, self.version = judge, file, 0
        self.reads = "steps" if kind == "process" else "completions"
        self._scores: dict[str, Any] | None = None

    def __call__(self, prompts: Sequence[Any], **columns: Any) -> list[Any]:
        """What the judge says of each answer."""
        scores, answers = self._known(), columns[self.reads]
        keys = [self._key(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        rows = {key: row for row, key in reversed(list(enumerate(keys))) if key not in scores}
        new = sorted(rows.values())
        if new:
            said = self.judge(prompts=[prompts[i] for i in new], **{self.reads: [answers[i] for i in new]})
            self._keep({keys[i]: score for i, score in zip(new, said, strict=True)})
        return [scores[key] for key in keys]

    def forget(self) -> None:
        """Begin anew, as a run that does not go on from another one."""
        self.file.unlink(missing_ok=True)
        self._scores = None

    def _key(self, prompt: Any, answer: Any) -> str:
        text = json.dumps([self.version, prompt, answer])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _known(self) -> dict[str, Any]:
        if self._scores is None:
            lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.is_file() else []
            whole = [line for line in lines if line.endswith("}")]  # a kill may have torn the last one
            if len(whole) < len(lines):
                self.file.write_text("".join(line + "\n" for line in whole), encoding="utf-8")
            self._scores = {key: score for line in whole for key, score in json.loads(line).items()}
        return self._scores

    def _keep(self, said: dict[str, Any]) -> None:
        self._known().update(said)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")
