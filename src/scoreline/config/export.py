"""A run's model as a folder to give away: the Hugging Face files and a README that says where they come from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scoreline.config.judge import JudgeRun
from scoreline.config.label import LabelRun
from scoreline.config.launch import is_model, resolve_model
from scoreline.config.load import load, resolve
from scoreline.config.recipe import Said, read
from scoreline.config.run import Run, SftRun
from scoreline.environments.resolve import name_of
from scoreline.errors import CheckpointError, suggest
from scoreline.models.adapters import SETTINGS, base_of, is_adapter, settings
from scoreline.models.policy import load_policy
from scoreline.reports.history import History, read_history
from scoreline.train.checkpoint import MANIFEST, STATE, damage

RESOLVED = "config.resolved.toml"

CARD = Path(__file__).with_name("model_card.md")


Recorded = Run | SftRun | JudgeRun | LabelRun


def schema_of(tables: Mapping[str, Any]) -> type[Recorded]:
    """Which verb's recipe this is."""
    if "sft" in tables:
        return SftRun
    kinds = {"outcome": JudgeRun, "process": JudgeRun, "pairs": LabelRun, "steps": LabelRun}
    return kinds.get(tables.get("kind", ""), Run)


def recorded(folder: Path) -> Recorded | None:
    """The configuration that a run left in its folder; None if the folder is no run.

    Without its objective, of which only Python may know: what is made of a run afterwards needs the algorithm's name.
    """
    file = folder / RESOLVED
    if not file.is_file():
        return None
    tables = read(file)
    if schema_of(tables) is not Run:
        return load(schema_of(tables), [file])
    algorithm, _ = tables.pop("algorithm", "grpo"), tables.pop("objective", None)
    run: Run = resolve(Run, Run(), [Said(tables, str(file))], "")
    return replace(run, algorithm=algorithm)


def export(folder: Path, target: Path, checkpoint: str | None = None, *, merge: bool = False) -> Path:
    """Copy the newest model of a run, or a named checkpoint's, to `target`, with a model card.

    An adapter stays a PEFT folder; with `merge` it is added to its base model, which makes an ordinary folder.
    Raises `CheckpointError` for a folder that is no run, a checkpoint that is not there or has changed since it was
    written, and a target that has something in it.
    """
    run = recorded(folder)
    if run is None:
        raise CheckpointError(f"{folder} is not a run.", accepted=f"a folder with {RESOLVED}")
    source = _source(folder, checkpoint)
    holder = source if (source / MANIFEST).is_file() else source.parent
    if fault := damage(holder):
        raise CheckpointError("This checkpoint is not what its manifest says.", got=f"{holder}: {fault}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError("The target is not empty.", got=target, accepted="a new or an empty folder")
    try:
        if merge and is_adapter(source):
            load_policy(replace(run.model, path=str(source), lora=None, device="cpu")).save(target)
        else:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)
            name_base(target)
        (target / "README.md").write_text(card(run, read_history(folder), holder, target), encoding="utf-8")
    except OSError as error:
        raise CheckpointError("The model could not be copied.", got=error, todo="look at what is in the way") from error
    return target


def name_base(folder: Path) -> None:
    """Call an adapter's base model by its name alone where its path is nobody's business."""
    if is_adapter(folder):
        said = settings(folder) | {"base_model_name_or_path": _public(base_of(folder))}
        (folder / SETTINGS).write_text(json.dumps(said, indent=2, sort_keys=True), encoding="utf-8")


def card(run: Recorded, history: History, checkpoint: Path, folder: Path) -> str:
    """The README of an exported model: base model, method, data, evaluation, versions, and how to load it."""
    facts = {"base model": _public(run.model.path), "method": method(run), "data": _public(run.data.source)}
    if isinstance(run, Run):
        facts["rewards"] = ", ".join(
            f"{name_of(spec.function)} x {spec.weight:g}" + (f" + {spec.offset:g}" if spec.offset else "")
            for spec in (*run.reward, *run.step_reward)
        )
    facts["run, checkpoint"] = f"{run.name}, {checkpoint.name}"
    facts |= {name: str(version) for name, version in history.environment.items()}
    purpose, loader = use(run)
    adapter = is_adapter(folder)
    return CARD.read_text(encoding="utf-8").format(
        purpose=purpose,
        library="peft" if adapter else "transformers",
        wrapper="from peft import PeftModel\n" if adapter else "",
        loader=loader,
        load=how_to_load(loader, folder, folder.name),
        tags="\n".join(f"- {tag}" for tag in [*tags(run), "scoreline"]),
        name=run.name,
        facts="\n".join(f"| {name} | {value} |" for name, value in facts.items()),
        scores=_scores(history, checkpoint),
        folder=folder.name,
    )


def method(run: Recorded) -> str:
    """What made the model."""
    if isinstance(run, JudgeRun):
        return "pairwise reward model" if run.kind == "outcome" else "process reward model"
    return run.algorithm if isinstance(run, Run) else "supervised fine-tuning"


def tags(run: Recorded) -> list[str]:
    """What hubs sort models by."""
    if isinstance(run, JudgeRun):
        return ["reward-model"]
    return ["reinforcement-learning", run.algorithm] if isinstance(run, Run) else ["sft"]


def use(run: Recorded) -> tuple[str, str]:
    """What the model does, in the hub's words, and the class that loads it."""
    if not isinstance(run, JudgeRun):
        return "text-generation", "AutoModelForCausalLM"
    if run.kind == "outcome":
        return "text-classification", "AutoModelForSequenceClassification"
    return "token-classification", "AutoModelForTokenClassification"


def loader_of(folder: Path) -> str:
    """The class that loads what a run made."""
    run = recorded(folder)
    return use(Run() if run is None else run)[1]


def how_to_load(loader: str, folder: Path, name: str) -> str:
    """The Python that loads an exported folder: a model, or an adapter on its base model."""
    if not is_adapter(folder):
        return f"{loader}.from_pretrained({json.dumps(name)})"
    return f"PeftModel.from_pretrained({loader}.from_pretrained({json.dumps(base_of(folder))}), {json.dumps(name)})"


def _source(folder: Path, checkpoint: str | None) -> Path:
    """The Hugging Face folder of the newest or of the named checkpoint."""
    if checkpoint is None:
        source = Path(resolve_model(str(folder)))
        if not is_model(source):
            raise CheckpointError("The run has no checkpoint.", got=folder, todo="go on with `train --resume`.")
        return source
    whole = (path.parent for path in (folder / "checkpoints").glob("*/hf"))
    names = [path.name for path in whole if not path.name.startswith(".")]
    if checkpoint not in names:
        known = ", ".join(sorted(names)) or "none"
        todo = suggest(checkpoint, names) if names else ""
        raise CheckpointError("There is no such checkpoint.", got=checkpoint, accepted=known, todo=todo)
    return folder / "checkpoints" / checkpoint / "hf"


def _scores(history: History, checkpoint: Path) -> str:
    """The held-out accuracies before training and at the checkpoint, where they were measured."""
    state = checkpoint / STATE
    step = json.loads(state.read_text(encoding="utf-8"))["step"] if state.is_file() else None
    measured = [row for row in history.evaluations if row["step"] in (0, step)]
    if not measured:
        return ""
    k = measured[0]["k"]
    rows = [[str(row["step"]), *(_interval(row[name]) for name in ("greedy", "avg@k", "pass@k"))] for row in measured]
    table = [["step", "greedy", f"avg@{k}", f"pass@{k}"], ["---"] * 4, *rows]
    return "\n".join(
        ["\n## Held-out accuracy, with 95 % intervals\n", *(f"| {' | '.join(row)} |" for row in table), ""]
    )


def _interval(score: Mapping[str, Any]) -> str:
    return f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def _public(path: str) -> str:
    """A path without the folders around it, which are nobody's business."""
    return Path(path).name if Path(path).is_absolute() else path
