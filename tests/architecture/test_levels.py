"""The tree is the data flow: a file imports only from its own folder or from lower levels, and there is no cycle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import scoreline

ROOT = Path(scoreline.__file__).parent
LEVELS = {
    "types": 0,
    "errors": 0,
    "secret": 0,
    "objectives": 1,
    "environments": 1,
    "models": 2,
    "rollout": 3,
    "train": 4,
    "backends": 5,
    "reports": 5,
    "config": 6,
    "cli": 7,
    "__main__": 8,
}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
HEAVY = ["torch", "transformers", "matplotlib", "pydantic", "ray", "vllm", "peft", "datasets", "wandb", "pyarrow"]


def unit(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path, *, deep: bool = True) -> set[str]:
    """The scoreline modules that a file imports, as dotted names; `deep` looks inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree) if deep else tree.body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "scoreline" else set()
            names |= {node.module} if node.module and node.module.startswith("scoreline.") else set()
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("scoreline.")}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    here = unit(path)
    assert here in LEVELS, f"{path}: {here} has no level"
    for name in imported(path):
        there = name.split(".")[1]
        if there in ("__version__", here):
            continue
        assert there in LEVELS, f"{path} imports {name}, which has no level"
        assert LEVELS[there] < LEVELS[here], f"{path} (level {LEVELS[here]}) imports {name} (level {LEVELS[there]})"


def test_no_cycles_between_files() -> None:
    def dotted(path: Path) -> str:
        return ".".join(("scoreline", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")

    graph = {dotted(path): imported(path) - {dotted(path)} for path in FILES}  # a package may name its own files
    tuple(TopologicalSorter({node: {e for e in edges if e in graph} for node, edges in graph.items()}).static_order())


def test_no_drawers() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "misc"}
    assert not [path for path in FILES if set(path.relative_to(ROOT).with_suffix("").parts) & drawers]


def test_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, scoreline; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_rewards_run_without_torch() -> None:
    code = "import sys, scoreline.environments.rewards as r; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_objectives_import_torch_and_types_only() -> None:
    allowed = {"scoreline.types", "scoreline.errors"}
    for path in FILES:
        if unit(path) == "objectives":
            outside = {n for n in imported(path) if not n.startswith("scoreline.objectives")}
            assert outside <= allowed, f"{path} imports {outside - allowed}"


def test_transformers_is_known_to_models_alone() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if unit(path) not in ("models", "backends"):
            assert "import transformers" not in text, path
            assert "from transformers" not in text, path


def test_nothing_is_unpickled() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for word in ("import pickle", "torch.load(", "torch.save(", "trust_remote_code=True", "0.0.0.0"):
            assert word not in text, f"{path}: {word}"
