"""Recipes and `key.sub=value` become a configuration:  defaults < files, left to right < overrides, left to right.

The dataclasses are the schema. Where a field takes one of several of them, `type` names the class:

    [objective.surrogate]        objective.surrogate.high=0.28        a value of the part that is there
    type = "Clip"                objective.surrogate.type=LogProb     another part, from its own defaults
    high = 0.28                  objective.kl=none                    no part
                                 objective.credit.0.std=none          a value of one item of a list

Tables merge, lists are replaced. Another `type` begins with its own defaults, another `algorithm` with its own
objective: what earlier files said of that part, or of the objective, no longer counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from scoreline.config.recipe import Said, override, plain, read, shown
from scoreline.errors import ConfigError, suggest
from scoreline.objectives.dialects import DIALECTS
from scoreline.objectives.zoo import ZOO

T = TypeVar("T")

ALGORITHMS = ZOO | DIALECTS
NONE = "none"
TYPE = "type"


def load(schema: type[T], files: Sequence[Path], overrides: Sequence[str] = ()) -> T:
    """The configuration, all of it checked. `load(Run, [Path("recipe.toml")], ["train.steps=5"])`.

    Raises `ConfigError`, or what the dataclasses themselves refuse.
    """
    layers = [Said(read(file), str(file)) for file in files]
    layers += sorted(map(override, overrides), key=lambda said: "algorithm" not in said.value)
    start, layers = _begin(schema(), layers)
    run: T = resolve(schema, start, layers, "")
    return run


def resolve(hint: Any, value: Any, layers: Sequence[Said], at: str) -> Any:
    """The value at an address: `value`, where no layer says anything."""
    choices = options(hint)
    if type(None) in choices:
        last = max((i for i, said in enumerate(layers) if said.value == NONE), default=-1)
        value, layers = (None if last >= 0 else value), layers[last + 1 :]
    if not layers:
        return value
    if get_origin(choices[0]) is tuple:
        return _list(choices[0], value, layers, at)
    return _part(parts(hint), value, layers, at) if parts(hint) else _leaf(choices, _last(value, layers), at)


def options(hint: Any) -> tuple[Any, ...]:
    """What a recipe may say of a field: the members of a union, or the one type.

    Functions and protocols are left out: only from Python can a field hold an object of one's own.
    """
    members = (hint,) if get_origin(hint) in (None, Literal, tuple, Mapping) else get_args(hint)
    return tuple(m for m in members if get_origin(m) is not Callable and not getattr(m, "_is_protocol", False))


def parts(hint: Any) -> tuple[type, ...]:
    """The dataclasses that a field may hold."""
    return tuple(option for option in options(hint) if is_dataclass(option) and isinstance(option, type))


def _begin(run: Any, layers: Iterable[Said]) -> tuple[Any, list[Said]]:
    """The defaults with the objective of the algorithm that is named last, and what is said of that one."""
    kept: list[Said] = []
    for said in layers:
        if hasattr(run, "algorithm") and "algorithm" in said.value:
            named = said.inside("algorithm")
            name = str(named.value)
            if name not in ALGORITHMS:
                got = f"algorithm = {shown(named.value)}, from {named.where}"
                raise ConfigError("Unknown algorithm.", got=got, todo=suggest(name, ALGORITHMS))
            if name != run.algorithm:
                run = replace(run, algorithm=name, objective=ALGORITHMS[name])
                kept = [replace(old, value={**old.value, "objective": {}}) for old in kept]
        kept.append(said)
    return run, kept


def _part(kinds: Sequence[type], value: Any, layers: Sequence[Said], at: str) -> Any:
    """A dataclass: one of `kinds`, with the values that the layers give over those it has."""
    kind = type(value) if value is not None else kinds[0] if len(kinds) == 1 else None
    tables: list[Said] = []
    for said in (_table(said, kinds, at) for said in layers):
        named = _kind(said, kinds, at) if TYPE in said.value else kind
        if named is not kind:
            kind, value, tables = named, None, []
        tables.append(said)
    if kind is None:
        raise _wrong(f"{at}.{TYPE} is missing.", layers[-1], at, " or ".join(sorted(k.__name__ for k in kinds)))
    _check_kind(kind, kinds, tables, at)
    return _build(kind, value, tables, at)


def _check_kind(kind: type, kinds: Sequence[type], tables: Sequence[Said], at: str) -> None:
    """Refuse a key that this part has not and another one of its kinds has: it is the `type` that is missing. One that
    is misspelt may be meant for any of them.
    """
    named = {other.__name__: {field.name for field in fields(other)} for other in kinds}
    own = named[kind.__name__] | {TYPE}
    for said, key in ((one, key) for one in tables for key in one.value if key not in own):
        others, address = [name for name, keys in named.items() if key in keys], _join(at, key)
        meant = suggest(key, {TYPE}.union(*named.values()))
        if not others and meant.startswith("did") and not _deeper(kind, get_type_hints(kind), key):
            raise ConfigError(f"Unknown key {address}.", got=said.inside(key).at(address), todo=meant)
        if others:
            raise ConfigError(
                f"{address} is not for {kind.__name__}.",
                got=said.inside(key).at(address),
                accepted=f"{_join(at, TYPE)} = {' or '.join(others)}, which has it",
                todo=f"set {_join(at, TYPE)}={others[0]} too, or leave {address} out.",
            )


def _build(kind: type, value: Any, tables: Sequence[Said], at: str) -> Any:
    hints = get_type_hints(kind)
    said = [(key, table.inside(key)) for table in tables for key in table.value if key != TYPE]
    known = {field.name: field for field in fields(kind)}
    for key, one in said:
        if key not in known:
            address = _join(at, key)
            raise ConfigError(f"Unknown key {address}.", got=one.at(address), todo=_nearest(kind, hints, key))
        if parts(hints[key]) and isinstance(one.value, int | float) and _deeper(kind, hints, key):
            address = _join(at, key)
            raise ConfigError(f"{address} is a table.", got=one.at(address), todo=_nearest(kind, hints, key))
    values: dict[str, Any] = {}
    for name, field in known.items():
        layers = [one for key, one in said if key == name]
        default = field.default if field.default_factory is MISSING else field.default_factory()
        before = default if value is None else getattr(value, name)
        if before is MISSING and not layers:
            raise _wrong(f"{_join(at, name)} is missing.", tables[-1], at, accepted(options(hints[name])))
        values[name] = resolve(hints[name], None if before is MISSING else before, layers, _join(at, name))
    return kind(**values)


def _table(said: Said, kinds: Sequence[type], at: str) -> Said:
    """A text is short for a table: the type where there are several, else the first field."""
    if isinstance(said.value, str):
        if len(kinds) > 1:
            return replace(said, value={TYPE: said.value})
        first = fields(kinds[0])[0].name
        if str in options(get_type_hints(kinds[0])[first]):
            return replace(said, value={first: said.value})
    if not isinstance(said.value, dict):
        one = ", ".join(field.name for field in fields(kinds[0]))
        raise _wrong(f"{at} is a table.", said, at, accepted(kinds) if len(kinds) > 1 else f"a table with {one}")
    return said


def _kind(said: Said, kinds: Sequence[type], at: str) -> type:
    """The dataclass of this name; `type = "vllm"` names `Vllm`."""
    name = said.inside(TYPE).value
    by_name = {kind.__name__: kind for kind in kinds}
    named = [kind for kind in kinds if kind.__name__.lower() == str(name).lower()]
    if not named:
        address = _join(at, TYPE)
        got = said.inside(TYPE).at(address)
        raise ConfigError(f"Unknown {address}.", got=got, accepted=accepted(kinds), todo=suggest(str(name), by_name))
    return named[0]


def _list(hint: Any, value: Any, layers: Sequence[Said], at: str) -> tuple[Any, ...]:
    """A list replaces the one before it; a table of numbers changes single items: {"0": ...}."""
    item = get_args(hint)[0]
    items: list[tuple[Any, list[Said]]] = [(old, []) for old in value or ()]
    for said in layers:
        if isinstance(said.value, list):
            items = [(None, [Said(new, said.where)]) for new in said.value]
        elif isinstance(said.value, dict):
            for key in said.value:
                if key not in map(str, range(len(items))):
                    got = said.inside(key).at(_join(at, key))
                    numbers = f"0 to {len(items) - 1}" if items else f"a list for {at}, which is empty"
                    raise ConfigError(f"{at} has no item {key}.", got=got, accepted=numbers)
                items[int(key)][1].append(said.inside(key))
        else:
            raise _wrong(f"{at} is a list.", said, at, accepted((hint,)))
    return tuple(resolve(item, old, told, f"{at}.{i}") for i, (old, told) in enumerate(items))


def _last(value: Any, layers: Sequence[Said]) -> Said:
    """The last word counts; where the field is a table of free keys, the words add up."""
    words = [plain(said.value) for said in layers]
    if isinstance(value, Mapping) and all(isinstance(table, dict) for table in words):
        return replace(layers[-1], value={key: word for table in (value, *words) for key, word in table.items()})
    return replace(layers[-1], value=words[-1])


def _leaf(choices: Sequence[Any], said: Said, at: str) -> Any:
    """A value of one of the types, never converted: "3" is no number. On the command line a text needs no quotes."""
    candidates = [said.value] if said.text is None else [said.value, said.text]
    for value in candidates:
        for choice in choices:
            listed = tuple(value) if get_origin(choice) is tuple and isinstance(value, list) else value
            with suppress(ValidationError):
                fitting = TypeAdapter(choice).validate_python(listed, strict=True)
                if not (isinstance(fitting, float) and math.isnan(fitting)):
                    return fitting
    raise _wrong(f"{at} does not take this value.", said, at, accepted(choices))


def accepted(choices: Iterable[Any]) -> str:
    """`a whole number or "none"`."""
    return " or ".join(_words(choice) for choice in choices)


def _words(choice: Any) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): '"none"'}
    if get_origin(choice) is Literal:
        return ", ".join(map(shown, get_args(choice)))
    if get_origin(choice) is tuple:
        return f"a list, each item {accepted(options(get_args(choice)[0]))}"
    if get_origin(choice) is Mapping:
        return "a table of texts" if str in get_args(choice)[1:] else "a table"
    return words.get(choice) or f"{choice.__name__}({', '.join(field.name for field in fields(choice))})"


def _nearest(kind: type, hints: Mapping[str, Any], key: str) -> str:
    """The key as it is spelt in this table, or the same key one table further in."""
    names = [field.name for field in fields(kind)]
    if deeper := _deeper(kind, hints, key):
        return f"did you mean {' or '.join(map(repr, deeper))}?"
    return suggest(key, names) if names else f"leave it out: {kind.__name__} takes no values"


def _deeper(kind: type, hints: Mapping[str, Any], key: str) -> list[str]:
    """Addresses of this key one table further in."""
    names = [field.name for field in fields(kind)]
    return [f"{name}.{key}" for name in names for part in parts(hints[name]) if key in (f.name for f in fields(part))]


def _wrong(what: str, said: Said, at: str, choices: str) -> ConfigError:
    return ConfigError(what, got=said.at(at), accepted=choices)


def _join(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key
