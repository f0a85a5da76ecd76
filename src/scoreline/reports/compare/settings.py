"""What the recipes of several arms say differently, and what they must say alike to be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scoreline.errors import ConfigError

Config = Mapping[str, Any]
"""The tables of a resolved recipe."""

ASIDE = ("name", "folder", "seed")
"""What every run has for itself."""

ALIKE = (
    "data",
    "sampling",
    "eval.k",
    "eval.prompts",
    "eval.right_at",
    "eval.reward",
    "model.path",
    "model.chat_template",
)
"""What decides which questions are asked, from which model on, and what counts as right."""


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """Every value by its address: {"objective.kl.beta": 0.04, "reward.0.function": "boxed"}."""
    if isinstance(value, Mapping) and value:
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        return {at: value}
    found: dict[str, Any] = {}
    for key, inner in items:
        found |= flat(inner, f"{at}.{key}" if at else key)
    return found


def differing(configs: Mapping[str, Config], aside: Sequence[str] = ASIDE) -> list[dict[str, Any]]:
    """The settings that are not the same in all arms; null where an arm does not have one."""
    each = {arm: flat(config) for arm, config in configs.items()}
    keys = sorted({key for values in each.values() for key in values if key not in aside})
    rows: list[dict[str, Any]] = [
        {"key": key, "values": {arm: values.get(key) for arm, values in each.items()}} for key in keys
    ]
    return [row for row in rows if len({repr(value) for value in row["values"].values()}) > 1]


def refuse_unlike(configs: Mapping[str, Config], allow: Sequence[str] = ()) -> None:
    """Raises `ConfigError` for arms that differ in what must be alike, unless `allow` names the key or its table."""
    judged = {arm: _said(config) for arm, config in configs.items()}
    rows = [row for row in differing(judged) if _inside(row["key"], ALIKE) and not _inside(row["key"], allow)]
    if not rows:
        return
    first, others = rows[0], [row["key"] for row in rows[1:]]
    got = ", ".join(f"{arm}: {value!r}" for arm, value in first["values"].items())
    truth = (
        "; say in [[eval.reward]] of all arms what counts as right" if first["key"].startswith("eval.reward") else ""
    )
    raise ConfigError(
        "These arms cannot be compared: they are not measured alike.",
        got=f"{first['key']} = {got}" + (f"; and {', '.join(others[:5])}" if others else ""),
        accepted="the same data, sampling, evaluation and starting model in all arms",
        todo=f'give all arms the same value{truth}; where the difference is meant, allow = ["{first["key"]}"].',
    )


def same(config: Config) -> dict[str, str]:
    """In words what all arms share: data, evaluation, starting model."""
    data, judged = config.get("data", {}), _said(config).get("eval", {})
    right = ", ".join(str(spec.get("function")) for spec in judged.get("reward", ()))
    source = f"{data.get('source', '?')}" + (
        f", level {data.get('level')}" if data.get("source") == "arithmetic" else ""
    )
    asked = f"{judged.get('prompts', '?')} held-out prompts, {judged.get('k', '?')} answers each"
    return {
        "data": source,
        "evaluation": asked + (f", right by {right}" if right else ""),
        "model": str(config.get("model", {}).get("path", "?")),
    }


def _said(config: Config) -> dict[str, Any]:
    """The recipe with the functions that really say what is right: those of the evaluation, or else the training's."""
    evaluation = dict(config.get("eval", {}))
    evaluation["reward"] = evaluation.get("reward") or config.get("reward", [])
    return {**config, "eval": evaluation}


def _inside(key: str, addresses: Sequence[str]) -> bool:
    return any(key == address or key.startswith(f"{address}.") for address in addresses)
