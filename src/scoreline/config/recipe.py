"""What recipes and the command line say, before anything is made of it."""

from __future__ import annotations

import json
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreline.errors import ConfigError, suggest
from scoreline.reports.plaintext import clipped


@dataclass(frozen=True)
class Said:
    """A value that a recipe or the command line gives, and where; `text` is how it was typed in `key=value`."""

    value: Any
    where: str
    text: str | None = None

    def inside(self, key: str) -> Said:
        """What it says of one key of a table."""
        value = self.value[key]
        return value if isinstance(value, Said) else Said(value, self.where)

    def at(self, address: str) -> str:
        """`train.steps = "ten", from recipe.toml`: what an error got."""
        return f"{address} = {shown(plain(self.value))}, from {self.where}"


def read(file: Path) -> dict[str, Any]:
    """A recipe's tables. Raises `ConfigError` for a file that is missing, empty, not UTF-8 or not TOML."""
    text = ""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        tables = tomllib.loads(text)
    except FileNotFoundError as error:
        near = [other.name for other in file.parent.glob("*.toml")]
        raise ConfigError(
            "There is no such recipe.", got=file, todo=suggest(file.name, near) if near else ""
        ) from error
    except OSError as error:
        raise ConfigError("The recipe cannot be read.", got=f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError("The recipe is not UTF-8.", got=f"{file}, line {line}: {error.reason}") from error
    except tomllib.TOMLDecodeError as error:
        place = str(error).replace("end of document", f"the end, line {len(text.splitlines())}")
        raise ConfigError("The recipe is not TOML.", got=f"{file}: {place}") from error
    if not tables:
        raise ConfigError("The recipe is empty.", got=file, accepted='such as: algorithm = "grpo"')
    return tables


def override(typed: str) -> Said:
    """`train.steps=5` as the table {"train": {"steps": 5}}. What is not a TOML value is a text."""
    key, equals, text = typed.partition("=")
    if not equals:
        raise ConfigError("An override needs a value.", got=typed, accepted="key=value, such as train.steps=5")
    where = "the command line"
    said = Said(_toml_value(text), where, text)
    for name in reversed(key.strip().split(".")):
        said = Said({name: said}, where)
    return said


def plain(value: Any) -> Any:
    """The value without its origins."""
    if isinstance(value, Said):
        return plain(value.value)
    return {key: plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def shown(value: Any) -> str:
    """A value as a recipe would write it."""
    return clipped(json.dumps(value, default=str, ensure_ascii=False), 200)


def _toml_value(text: str) -> Any:
    with suppress(tomllib.TOMLDecodeError):
        parsed = tomllib.loads(f"value = {text}")
        if list(parsed) == ["value"]:
            return parsed["value"]
    return text
