"""Reduced suites: what they cut, refused where it is no count, and said in a line each."""

from __future__ import annotations

from pydantic import BaseModel

from .. import registry
from ..agent import Config
from ..errors import UserError
from ..runs.spec import schedule_text
from ..util.config import Located, nearest, validate
from .schema import Offline, SuiteFile, evaluation_schedule


def reduce_suite(full: SuiteFile, source: Located) -> tuple[Located, list[str]]:
    """Apply the cuts of ``reduced`` to the suite's own counts; the algorithms' wait for their configs."""
    if not full.reduced:
        return source, []
    where, value, lines = dict(source.where), dict(source.value), list[str]()
    keys = {"offline", "online", "seeds", *registry.names()}
    for key, cut in full.reduced.items():
        place = source.at(("reduced", key))
        if key not in keys:
            raise UserError(f"{place}: reduced.{key}: unknown key; {nearest(key, keys)}")
        if key == "seeds":
            value["seeds"] = cut
            where = {at: text for at, text in where.items() if at[:1] != ("seeds",)}
            below = {at[1:]: text for at, text in source.where.items() if at[:2] == ("reduced", "seeds")}
            where |= {("seeds",): place, **below}
            now, before = (len(of) if isinstance(of, list) else of for of in (cut, full.seeds))
            if isinstance(now, int) and now > before:
                raise UserError(f"{place}: reduced.seeds: {now:,} is more than the full {before:,}")
        elif not isinstance(cut, dict):
            raise UserError(f"{place}: reduced.{key}: expected options in braces, got {cut!r}")
        elif key in ("offline", "online"):
            value[key] = {**value.get(key, {}), **cut}
            where.update({(key, k): source.at(("reduced", key, k)) for k in cut})
            before = getattr(full, key)
            after = validate(type(before), Located(value, where).child(key), (key,))
            lines += reductions(key, after, before, source.child("reduced", key))
    return Located(value, where), lines


def reductions(part: str, config: BaseModel, full: BaseModel, cut: Located) -> list[str]:
    """Return a line for each count that ``cut`` lowers: ``part.key = value (full: value)``."""
    lines = [_reduction(f"{part}.{key}", config, full, key, cut.at((key,))) for key in cut.value]
    return [line for line in lines if line]


def is_count(config: type[BaseModel], key: str) -> bool:
    """Tell whether an option is declared as a count, which a reduced suite may cut."""
    field = config.model_fields.get(key)
    return bool(field and isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("count"))


def _reduction(shown: str, config: BaseModel, full: BaseModel, key: str, place: str) -> str:
    """Return ``key = value (full: value)``, nothing where both are equal; refuse more, and no count."""
    if isinstance(full, Config) and not is_count(type(full), key):
        raise UserError(f"{place}: reduced.{shown}: is not a count; a reduced suite may only cut counts")
    now, before = getattr(config, key), getattr(full, key)
    if isinstance(now, list) or isinstance(before, list):  # evaluations: neither more nor less than the other
        unit = "updates" if isinstance(full, Offline) else "steps"
        now, before = (schedule_text(evaluation_schedule(value), unit) for value in (now, before))
        return "" if now == before else f"{shown} = {now} (full: {before})"
    if before is not None and (now is None or now > before):
        raise UserError(f"{place}: reduced.{shown}: {now} is more than the full {before}")
    if now == before:
        return ""
    return f"{shown} = {now:,} (full: {'no limit' if before is None else f'{before:,}'})"
