"""A configuration as a recipe that says everything: `load(type(run), [file with dump(run)]) == run`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import tomli_w

from scoreline.config.load import NONE, TYPE, options, parts
from scoreline.environments.resolve import import_name, name_of


def dump(run: Any) -> str:
    """The TOML text of a `Run` or `SftRun`. What is not there is written "none"; a function by its name."""
    return tomli_w.dumps(_tree(run, type(run)))


def _tree(value: Any, hint: Any) -> Any:
    if value is None:
        return NONE
    if is_dataclass(value):
        hints = get_type_hints(type(value))
        kind = {TYPE: type(value).__name__} if len(parts(hint)) > 1 else {}
        return kind | {field.name: _tree(getattr(value, field.name), hints[field.name]) for field in fields(value)}
    if isinstance(value, tuple):
        return [_tree(item, get_args(options(hint)[0])[0]) for item in value]
    if callable(value):
        return import_name(value) or _in_script(value) or name_of(value)
    return dict(value) if isinstance(value, Mapping) else value


def _in_script(function: Callable[..., Any]) -> str | None:
    """`file.py:function` for a function of the script that runs, so that its recipe can be used again."""
    script = getattr(sys.modules.get(str(getattr(function, "__module__", None))), "__file__", None)
    name = getattr(function, "__qualname__", "<lambda>")
    return f"{script}:{name}" if script and name.isidentifier() else None
