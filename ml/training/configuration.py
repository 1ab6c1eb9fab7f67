"""Read a TOML file into frozen dataclasses; an unknown key or a wrong type is an error."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from ml.errors import InvalidConfiguration

T = TypeVar("T")

_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InvalidConfiguration: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error}") from error
    return parse_toml(text, where=str(path))


def parse_toml(text: str, *, where: str) -> dict[str, Any]:
    """Read TOML from a text.

    Raises:
        InvalidConfiguration: it is none; the message tells ``where``, the line and the column.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidConfiguration(f"{where} cannot be read: {error}") from error


def from_table(kind: type[T], table: Mapping[str, Any], *, where: str) -> T:
    """Create the dataclass ``kind`` from a table.

    Args:
        where: the location for messages, such as the file's name.

    Raises:
        InvalidConfiguration: a key is unknown or missing, or a value has the wrong type.
    """
    types = get_type_hints(kind)
    if unknown := sorted(set(table) - set(types)):
        raise InvalidConfiguration(
            f"{where}: {unknown[0]} is not known; what is: {', '.join(sorted(types))}."
        )
    values = {key: _value(types[key], table[key], f"{where}, {key}") for key in table}
    for one in fields(cast(Any, kind)):
        if one.name not in values and one.default is one.default_factory is MISSING:
            raise InvalidConfiguration(f"{where} lacks {one.name}.")
    return kind(**values)


def _value(wanted: Any, value: Any, where: str) -> Any:
    if get_origin(wanted) is tuple:
        if not isinstance(value, list):
            raise InvalidConfiguration(f"{where} must be a list.")
        return tuple(_value(get_args(wanted)[0], one, where) for one in value)
    if is_dataclass(wanted) or get_origin(wanted) is dict:
        if not isinstance(value, dict):
            raise InvalidConfiguration(f"{where} must be a table.")
        if not is_dataclass(wanted):
            return value
        return from_table(cast(type[Any], wanted), value, where=where)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise InvalidConfiguration(f"{where} must be {_WORDS[wanted]}, not {value!r}.")
    return value
