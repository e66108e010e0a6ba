"""What ``o2obench info`` shows of an algorithm: its options as a table, its rows by data set, its page."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from .. import registry
from ..agent import Agent, Config
from .markup import escape

Schema = Mapping[str, Any]
"""A JSON schema, as pydantic makes it of a type."""
TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}


def facts(name: str) -> Iterator[str]:
    """Yield lines: what the algorithm is, what it starts from and learns from, its versions, its page."""
    agent = registry.algorithm(name)
    yield f"{name}: {registry.summary(name)}"
    needs = f", of which it needs {', '.join(agent.requires)}" if agent.pretrain and agent.requires else ""
    start = (
        f"{agent.pretrain}, unless `from:` names another pretraining{needs}" if agent.pretrain else "nothing"
    )
    yield f"  starts from   {start}"
    yield f"  offline data  {'it learns from them' if agent.uses_data else 'it does not learn from them'}"
    parts = (f"{part} {number}" for part, number in registry.versions(name).items())
    yield f"  versions      {', '.join(parts)}"
    page = Path(inspect.getfile(agent)).parents[1] / "docs" / "algorithms" / f"{name}.md"
    if page.is_file():
        yield f"  page          {page.relative_to(page.parents[2])}"


def options_table(agent: type[Agent[Any]]) -> Table:
    """Return the options of an algorithm: default, range, meaning."""
    table = Table(title="options (`--set option=value`, or in a suite)", title_justify="left")
    for column in ("option", "default", "range", "meaning"):
        table.add_column(column, overflow="fold", ratio=3 if column == "meaning" else None)
    schemas = agent.Config.model_json_schema()["properties"] if agent.Config.model_fields else {}
    for option, schema in schemas.items():
        default = json.dumps(schema["default"]) if "default" in schema else "none: it has to be given"
        table.add_row(option, *map(escape, (default, range_text(schema), meaning(agent.Config, option))))
    return table


def rows_table(agent: type[Agent[Any]], name: str) -> Table | None:
    """Return the options by data set, as ``configs/NAME.yaml`` has them; None where there are none."""
    rows = registry.options_file(agent, name).value
    named = {"every data set": rows.get("default"), **rows.get("datasets", {})}
    given = {pattern: row for pattern, row in named.items() if row is not None}
    if not given:
        return None
    table = Table(title="rows per data set", title_justify="left")
    table.add_column("data sets")
    table.add_column("options", overflow="fold")
    for pattern, row in given.items():
        options = (f"{option}: {json.dumps(value)}" for option, value in row.items())
        table.add_row(*map(escape, (pattern, ", ".join(options) or "the defaults")))
    return table


def meaning(config: type[Config], option: str) -> str:
    """Return what is written below an option, in its class or the nearest base that says something."""
    bases = (base for base in config.__mro__ if issubclass(base, Config) and option in base.model_fields)
    texts = (base.model_fields[option].description for base in bases)
    return " ".join(next((text for text in texts if text), "").split())


def range_text(schema: Schema) -> str:
    """Return in words which values a JSON schema lets through: ``whole number > 0``, ``online or union``."""
    if "anyOf" in schema:
        return " or ".join(map(range_text, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(map(_plain, schema.get("enum", [schema.get("const")])))
    kind = schema.get("type", "")
    if kind == "array":
        parts = schema.get("prefixItems")
        if parts:
            return f"{len(parts)} of: {' or '.join(dict.fromkeys(map(range_text, parts)))}"
        return f"list of: {range_text(schema['items'])}"
    low, high = schema.get("minimum"), schema.get("maximum")
    limits = [f"{low} to {high}"] if low is not None and high is not None else []
    if not limits:
        signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
        limits = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    limits += [f"multiple of {schema['multipleOf']}"] if "multipleOf" in schema else []
    return f"{TYPES.get(kind, kind)} {', '.join(limits)}".strip()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
