"""Configurations as TOML, with their descriptions for comments; the standard library only reads it."""

import json
import tomllib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel


def to_toml(config: BaseModel) -> str:
    """Return ``config`` as TOML that reads back as the same; a setting without a value is commented out."""
    return "\n".join(_table(config, ())).strip() + "\n"


def parse_value(text: str) -> Any:
    """Return the value that ``text`` is in TOML (``3``, ``true``, ``["a"]``), or else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except tomllib.TOMLDecodeError:
        return text


def _table(config: BaseModel, path: tuple[str, ...]) -> Iterator[str]:
    inner: list[tuple[str, Any]] = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel | dict):
            inner.append((name, value))
            continue
        line = f"# {name} =" if value is None else f"{name} = {_value(value)}"
        yield f"{line}  # {field.description}" if field.description else line
    for name, value in inner:
        yield ""
        yield f"[{'.'.join((*path, name))}]"
        if isinstance(value, BaseModel):
            yield from _table(value, (*path, name))
        else:
            yield from (f"{_text(key)} = {_value(item)}" for key, item in value.items())


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(k)} = {_value(v)}' for k, v in value.items())}}}"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    # A JSON string is a TOML string, but for DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
