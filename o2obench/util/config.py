"""YAML files to typed values, with the place of every key kept for the error message.

Scalars follow YAML 1.2 (``1e-3`` is a number, ``no`` is a string, ``010`` is ten), duplicate keys are
refused, and nothing in a file can name code.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import UserError
from .files import read_plain

MOST_BYTES = 2**20
"""Of a YAML file; the largest here has a few thousand."""
MOST_DIGITS = 40
SHOWN = 80
"""Characters of a wrong value that a message shows."""
Place = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


class _Yaml12(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own class attribute)

    def compose_node(self, parent: Any, index: Any) -> Any:
        loader: Any = self  # PyYAML's own methods have no types
        event = loader.peek_event()
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not allowed; write the value again"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        if getattr(event, "tag", None) is not None:
            problem = f"tags ({str(event.tag)[:40]}) are not allowed; write the plain value"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        return super().compose_node(parent, index)


def _int(loader: _Yaml12, node: Any) -> int:
    return int(_digits(node).replace("_", ""))


def _float(loader: _Yaml12, node: Any) -> float:
    text = _digits(node).lower().replace("_", "")
    value = float(text.replace(".inf", "inf"))
    if math.isinf(value) and "inf" not in text:
        raise yaml.MarkedYAMLError(problem="the number is too large", problem_mark=node.start_mark)
    return value


def _digits(node: Any) -> str:
    """Return the text of a number; refuse one that nobody can mean."""
    text = str(node.value)
    if len(text) > MOST_DIGITS:
        problem = f"a number of {len(text):,} characters; write at most {MOST_DIGITS}"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return text


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Yaml12.add_constructor("tag:yaml.org,2002:int", _int)
_Yaml12.add_constructor("tag:yaml.org,2002:float", _float)


@dataclass(frozen=True)
class Located:
    """A plain value and, for each key in it, the ``file:line:col`` where it was written."""

    value: Any
    where: Mapping[Place, str] = field(default_factory=dict)

    def at(self, place: Place) -> str:
        """Return the position of ``place``, or of the nearest enclosing key that has one."""
        while place and place not in self.where:
            place = place[:-1]
        return self.where.get(place, "")

    def child(self, *keys: str | int) -> Located:
        """Return the value under ``keys`` with its positions."""
        value, depth = self.value, len(keys)
        for key in keys:
            value = value[key]
        return Located(value, {p[depth:]: w for p, w in self.where.items() if p[:depth] == keys})


def read_yaml(path: Path) -> Located:
    """Read one YAML file; raise UserError with a position when it is not well formed."""
    where: dict[Place, str] = {(): f"{path}:1:1"}
    text = ""

    def at(mark: yaml.Mark) -> str:
        return _position(path, text, mark.index)

    def walk(node: yaml.Node, place: Place) -> Any:
        where.setdefault(place, at(node.start_mark))
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = loader.construct_object(key_node)
                position = at(key_node.start_mark)
                if not isinstance(key, str):
                    raise UserError(f"{position}: {key!r}: a key must be text; put it in quotes")
                if key in mapping:
                    raise UserError(f"{position}: {key}: written twice; keep one of the two")
                where[(*place, key)] = position
                mapping[key] = walk(value_node, (*place, key))
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [walk(item, (*place, i)) for i, item in enumerate(node.value)]
        return loader.construct_object(node)

    try:
        text = _decoded(path, read_plain(path, MOST_BYTES, follow=True))
        loader = _Yaml12(text)
        node = loader.get_single_node()
        value = walk(node, ()) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = at(mark) if mark else str(path)
        problem = str(error.problem or error.context)
        remedy = "; indent with spaces" if r"'\t'" in problem else ""
        raise UserError(f"{position}: not valid YAML: {problem}{remedy}") from None
    except RecursionError:
        raise UserError(f"{path}: cannot be read as YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as YAML: {reason}") from None
    return Located(value, where)


def parse_scalar(text: str) -> Any:
    """Return the value that ``text`` would have in a YAML file (a number, a list, a word)."""
    try:
        return yaml.load(text, Loader=_Yaml12)
    except (yaml.YAMLError, RecursionError):
        return text


def merge(*layers: Located) -> Located:
    """Merge mappings key by key at every depth, later layers winning; positions follow the winner."""
    value: dict[str, Any] = {}
    where: dict[Place, str] = {}
    for layer in layers:
        _lay(value, where, layer, ())
    return Located(value, where)


def _lay(below: dict[str, Any], where: dict[Place, str], layer: Located, place: Place) -> None:
    """Lay the mapping at ``place`` of a layer over the one below, which is changed."""
    if place in layer.where:
        where[place] = layer.where[place]
    for key, item in layer.child(*place).value.items():
        inner = (*place, key)
        if isinstance(item, dict) and isinstance(below.get(key), dict):
            below[key] = dict(below[key])
            _lay(below[key], where, layer, inner)
            continue
        below[key] = item
        for old in [old for old in where if old[: len(inner)] == inner]:
            del where[old]
        where.update({p: w for p, w in layer.where.items() if p[: len(inner)] == inner})


def validate(model: type[M], source: Located, prefix: Place = ()) -> M:
    """Build ``model`` from plain values; raise UserError naming every wrong key, its place and a remedy."""
    try:
        return model.model_validate_json(json.dumps(source.value), strict=True)
    except ValidationError as error:
        raise UserError(*_problems(model, source, prefix, [dict(e) for e in error.errors()])) from None


def _close(word: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(word, sorted(names), n=1, cutoff=0.6)


def nearest(word: str, names: Iterable[str]) -> str:
    """Return ``did you mean ...?`` when one of ``names`` is close to ``word``, else all of them."""
    names = sorted(names)
    close = _close(word, names)
    if close:
        return f"did you mean {close[0]}?"
    return "known: " + ", ".join(names) if names else "none is known"


def _problems(
    model: type[BaseModel], source: Located, prefix: Place, errors: Sequence[dict[str, Any]]
) -> list[str]:
    """Return a line for each wrong key; keys that are missing together share one."""
    by_place, missing = dict[Place, list[dict[str, Any]]](), dict[Place, list[str]]()
    for error in errors:
        place: Place = ()
        for part in error["loc"]:
            if _exists(source.value, (*place, part)):  # pydantic adds the names of union members
                place = (*place, part)
        if error["type"] == "missing":
            missing.setdefault(place, []).append(str(error["loc"][-1]))
        else:
            by_place.setdefault(place, []).append(error)
    lines, misspelt = list[str](), set[Place]()
    for place, wrong in by_place.items():
        if wrong[0]["type"] == "extra_forbidden":
            names = set(_fields(model, place[:-1]))
            misspelt |= {(*place[:-1], name) for name in _close(str(place[-1]), names)}
            problem = f"unknown key; {nearest(str(place[-1]), names)}"
        else:
            problem = _problem(wrong)
        lines.append(_line(source.at(place), (*prefix, *place), problem))
    for place, keys in missing.items():
        lost = [key for key in keys if (*place, key) not in misspelt]
        if lost:
            remedy = "missing; add it" if len(lost) == 1 else "missing; add them"
            lines.append(_line(source.at(place), (*prefix, *place, ", ".join(lost)), remedy))
    return lines


def _line(position: str, place: Place, problem: str) -> str:
    """Return ``file:line:col: key: problem``."""
    key = ".".join(map(str, place)) or "(file)"
    return f"{position}: {key}: {problem}" if position else f"{key}: {problem}"


def _problem(errors: Sequence[dict[str, Any]]) -> str:
    """Return what is wrong with a value; each member of a union has an error of its own."""
    messages = [error["msg"].removeprefix("Value error, ") for error in errors]
    for written, plain in (("valid array", "valid list"), ("an object", "a mapping (key: value)")):
        messages = [message.replace(written, plain) for message in messages]
    first, *others = dict.fromkeys(message[0].lower() + message[1:] for message in messages)
    problem = " or ".join([first, *(message.removeprefix("input should be ") for message in others)])
    kind, value = errors[0]["type"], errors[0]["input"]
    if kind != "value_error" and not isinstance(value, (dict, list)):
        problem += f", got {repr(value)[:SHOWN]}"
    if kind in ("list_type", "tuple_type") and isinstance(value, str):
        problem += f"; write [{value}]"
    return problem


def _fields(model: type[BaseModel], place: Place) -> Iterable[str]:
    for part in place:
        if isinstance(part, int):
            continue
        models = _models(model.model_fields[part].annotation if part in model.model_fields else None)
        if not models:
            return ()
        model = models[0]
    return model.model_fields


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation is built from."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _exists(value: Any, place: Sequence[Any]) -> bool:
    for part in place:
        if (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        ):
            value = value[part]
        else:
            return False
    return True


def _decoded(path: Path, content: bytes) -> str:
    """Return a file's text; raise UserError with the place of the first byte that is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", errors="replace")
        position, byte = _position(path, before, len(before)), content[error.start]
        raise UserError(f"{position}: not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8") from None


def _position(path: Path, text: str, index: int) -> str:
    """Return the place of a character as editors count lines; PyYAML counts rarer line breaks, too."""
    breaks = [found.end() for found in re.finditer(r"\r\n?|\n", text[:index])]
    return f"{path}:{len(breaks) + 1}:{index - (breaks[-1] if breaks else 0) + 1}"
