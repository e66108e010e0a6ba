"""The entries of a suite: sweeps multiplied out, and what each starts from."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import registry
from ..agent import Agent
from ..datasets import policy_files
from ..errors import UserError, told_at
from ..runs.spec import MOST
from ..util.config import Located, nearest
from .schema import MOST_EXPERIMENTS, SuiteFile
from .set_names import matching

FROZEN = "frozen"
"""The control that every pretraining gets."""
POLICY_FILE = "policy_file"
"""The algorithm that shows a user's own policy."""
NO_POLICY = (
    f"{POLICY_FILE}: is not run by its name, it needs a file: `o2obench run frozen DATA --from policy.npz`, "
    "or `frozen: {from: policy.npz}` in a suite"
)
NO_OPTIONS = Located({})
RESERVED = ("label", "from", "datasets", "tuning_runs")
"""The keys of an entry that are no options of its algorithm."""
Find = Callable[[str], policy_files.PolicyFile]
"""Finds and reads the policy that a suite names by a path."""


@dataclass(frozen=True)
class Pretraining:
    """What an entry starts from: an algorithm with options, or a user's own policy."""

    algorithm: str
    label: str
    options: Located = NO_OPTIONS
    policy: policy_files.PolicyFile | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What makes two of them the same."""
        return self.algorithm, json.dumps(self.options.value, sort_keys=True, default=repr)


@dataclass(frozen=True)
class Entry:
    """One line of ``algorithms:`` after sweeps are multiplied out, and the data sets that it runs on."""

    algorithm: str
    method: str
    options: Located
    pretraining: Pretraining | None
    datasets: Sequence[str] = ()
    automatic: bool = False
    tuning_runs: int | None = None
    """How many runs its options were chosen by, as the suite declares it."""


def all_entries(
    suite: SuiteFile, source: Located, find: Find, datasets: Mapping[str, str], seeds: int
) -> list[Entry]:
    """Return the entries of a suite; refuse too many, equal labels, and pretrainings that are mixed up.

    ``datasets`` are those of the suite by the names that it has for them.
    """
    entries = list(itertools.islice(_entries(suite, source, find, datasets), MOST_EXPERIMENTS + 1))
    place = source.at(("algorithms",))
    if sum(len(entry.datasets) for entry in entries) * seeds > MOST_EXPERIMENTS:
        raise UserError(f"{place}: the suite has over {MOST_EXPERIMENTS:,} experiments; cut a sweep")
    methods = Counter(entry.method for entry in entries)
    twice = sorted(method for method, n in methods.items() if n > 1)
    if twice:
        raise UserError(f"{place}: algorithms: {twice[0]!r} stands twice; give labels")
    spelled = dict[str, str]()
    for method in methods:
        if spelled.setdefault(method.casefold(), method) != method:
            both = f"{spelled[method.casefold()]!r} and {method!r}"
            raise UserError(f"{place}: algorithms: {both} are equal up to case; give other labels")
    keys, labels = dict[str, tuple[str, str]](), dict[tuple[str, str], str]()
    for pretraining in (entry.pretraining for entry in entries if entry.pretraining):
        if keys.setdefault(pretraining.label, pretraining.key) != pretraining.key:
            raise UserError(
                f"{place}: algorithms: two pretrainings are called {pretraining.label!r}; give labels"
            )
        if labels.setdefault(pretraining.key, pretraining.label) != pretraining.label:
            raise UserError(
                f"{place}: algorithms: {one_and_the_same(labels[pretraining.key], pretraining.label)}"
            )
    return entries


def one_and_the_same(label: str, other: str) -> str:
    """Return what is wrong with two labels for one pretraining."""
    return f"{label!r} and {other!r} are the same pretraining; give it one label, or other options"


def _entries(suite: SuiteFile, source: Located, find: Find, datasets: Mapping[str, str]) -> Iterator[Entry]:
    """Yield an entry per combination of the swept options."""
    everywhere = tuple(dict.fromkeys(datasets.values()))
    for i, item in enumerate(suite.algorithms):
        if not isinstance(item, str) and len(item) != 1:
            raise UserError(f"{source.at(('algorithms', i))}: algorithms: one algorithm per list item")
        algorithm, options = (item, None) if isinstance(item, str) else next(iter(item.items()))
        with told_at(source.at(("algorithms", i))):
            agent = registry.algorithm(algorithm)
        fields = agent.Config.model_fields
        if options is None:
            yield Entry(algorithm, algorithm, NO_OPTIONS, default_pretraining(agent), everywhere)
            continue
        place = source.child("algorithms", i, algorithm)
        for key in options.keys() - fields.keys() - set(RESERVED):
            raise UserError(f"{place.at((key,))}: {algorithm}.{key}: unknown key; {nearest(key, fields)}")
        pretraining = default_pretraining(agent)
        if "from" in options:
            pretraining = _pretraining(options["from"], algorithm, agent, place, find)
        on = _datasets(algorithm, place, datasets) if "datasets" in options else everywhere
        tuning_runs = _tuning_runs(algorithm, place)
        swept = {
            key: value
            for key, value in options.items()
            if isinstance(value, list) and key in fields and "tuple" not in str(fields[key].annotation)
        }
        for key in (key for key, values in swept.items() if not values):
            raise UserError(f"{place.at((key,))}: {algorithm}.{key}: an empty sweep; name at least one value")
        label = str(options.get("label", agent.label or algorithm))
        for values in itertools.product(*swept.values()):
            chosen = dict(zip(swept, values, strict=True))
            plain = {k: chosen.get(k, v) for k, v in options.items() if k not in RESERVED}
            placeholders = {**plain, "from": pretraining.label if pretraining else ""}
            text = _fill(label, placeholders, place.at(("label",)))
            if swept and "label" not in options:
                text = f"{algorithm} ({', '.join(f'{k}={v}' for k, v in chosen.items())})"
            own = Located(plain, place.where)
            yield Entry(algorithm, text, own, pretraining, on, tuning_runs=tuning_runs)


def _datasets(algorithm: str, place: Located, datasets: Mapping[str, str]) -> Sequence[str]:
    """Return the suite's data sets that an entry names; refuse a name that means none of them."""
    named = place.value["datasets"]
    if not (named and isinstance(named, list) and all(isinstance(name, str) for name in named)):
        raise UserError(
            f"{place.at(('datasets',))}: {algorithm}.datasets: expected a list of this suite's data sets"
        )
    chosen = set[str]()
    for i, pattern in enumerate(named):
        with told_at(f"{place.at(('datasets', i))}: {algorithm}.datasets"):
            chosen.update(matching(pattern, datasets))
    return tuple(dict.fromkeys(used for name, used in datasets.items() if name in chosen))


def _tuning_runs(algorithm: str, place: Located) -> int | None:
    """Return how many runs an entry declares that its options were chosen by; refuse what is no count."""
    declared: int | None = place.value.get("tuning_runs")
    if "tuning_runs" in place.value and not (type(declared) is int and 0 <= declared < MOST):
        raise UserError(
            f"{place.at(('tuning_runs',))}: {algorithm}.tuning_runs: expected the number of runs that its "
            f"options were chosen by, 0 where there were none; got {declared!r}"
        )
    return declared


def default_pretraining(agent: type[Agent[Any]]) -> Pretraining | None:
    """Return what an algorithm starts from unless an entry says ``from:``."""
    return Pretraining(agent.pretrain, agent.pretrain) if agent.pretrain else None


def _pretraining(
    named: Any, algorithm: str, agent: type[Agent[Any]], place: Located, find: Find
) -> Pretraining:
    """Return what ``from:`` names: an algorithm, ``{algorithm: {options}, label: ...}`` or a file."""
    where = f"{place.at(('from',))}: {algorithm}.from"
    if agent.pretrain is None and not agent.may_start:
        raise UserError(f"{where}: {algorithm} does not start from another run; leave it out")
    if isinstance(named, str):
        chosen = Pretraining(named, named)
    elif isinstance(named, dict) and len(named.keys() - {"label"}) == 1:
        [(name, options)] = [(key, value) for key, value in named.items() if key != "label"]
        if not isinstance(options, dict):
            raise UserError(f"{where}.{name}: expected options in braces, got {options!r}")
        shown = ", ".join(f"{key}={value}" for key, value in options.items())
        label = str(named.get("label") or "")
        label = _fill(label, options, place.at(("from", "label"))) if "label" in named else label
        chosen = Pretraining(
            name, label or (f"{name} ({shown})" if options else name), place.child("from", name)
        )
    else:
        raise UserError(f"{where}: expected a name, {{name: {{options}}, label: ...}}, or a policy's file")
    with told_at(place.at(("from",))):
        if Path(chosen.algorithm).suffix in policy_files.KINDS:
            chosen = _own_policy(chosen, find)
        elif chosen.algorithm == POLICY_FILE:
            raise UserError(NO_POLICY)
        elif chosen.algorithm == FROZEN:
            raise UserError(f"{FROZEN}: learns nothing; name what it starts from")
        parent = registry.algorithm(chosen.algorithm)
    if agent.may_start and not hasattr(parent, "network"):
        raise UserError(f"{where}: {chosen.label} shows no policy as plain arrays to hand on; name another")
    lacking = [part for part in agent.requires if part not in parent.provides]
    if lacking:
        provided = ", ".join(parent.provides) or "nothing that it names"
        raise UserError(
            f"{where}: {chosen.label} holds {provided}; {algorithm} needs {', '.join(lacking)} of it, too: "
            "name another pretraining"
        )
    return chosen


def _own_policy(named: Pretraining, find: Find) -> Pretraining:
    """Return the pretraining that shows the policy in a file."""
    if named.options.value:
        raise UserError(f"{named.algorithm}: a policy's file has no options; write {{}} and a label")
    policy = find(named.algorithm)
    config = {"sha256": policy.sha256, "activation": policy.activation, "squash": policy.squash}
    label = Path(named.algorithm).name if named.label == named.algorithm else named.label
    return Pretraining(POLICY_FILE, label, Located(config), policy)


def require_policy_named(source: Located) -> None:
    """Refuse an entry that shows a policy without its file."""
    listed = source.value.get("algorithms") if isinstance(source.value, dict) else None
    for i, item in enumerate(listed if isinstance(listed, list) else ()):
        if item == POLICY_FILE or (isinstance(item, dict) and POLICY_FILE in item):
            raise UserError(f"{source.at(('algorithms', i))}: {NO_POLICY}")


def controls(suite: SuiteFile, entries: Sequence[Entry], selected: Sequence[Entry]) -> list[Entry]:
    """Return ``frozen`` of every pretraining that entries which are kept start from, where no entry is it.

    It runs on their data sets.
    """
    if not suite.frozen:
        return []
    has, starts = dict[Any, set[str]](), dict[Any, Pretraining]()
    lacking = dict[Any, dict[str, None]]()
    for key, entry in ((entry.pretraining.key, entry) for entry in entries if entry.pretraining):
        has.setdefault(key, set()).update(entry.datasets if entry.algorithm == FROZEN else ())
    for pretraining, entry in ((entry.pretraining, entry) for entry in selected if entry.pretraining):
        starts[pretraining.key] = pretraining
        others = [name for name in entry.datasets if name not in has[pretraining.key]]
        lacking.setdefault(pretraining.key, {}).update(dict.fromkeys(others))
    alone = len({entry.pretraining.key for entry in entries if entry.pretraining}) == 1
    methods = {entry.method for entry in entries}
    added = list[Entry]()
    for key, pretraining in ((key, pretraining) for key, pretraining in starts.items() if lacking[key]):
        method = FROZEN if alone and FROZEN not in methods else f"{FROZEN} ({pretraining.label})"
        while method in methods:
            method = f"{method} (automatic)"
        methods.add(method)
        on = tuple(lacking[key])
        added.append(Entry(FROZEN, method, NO_OPTIONS, pretraining, on, automatic=True))
    return added


def _fill(label: str, options: dict[str, Any], place: str) -> str:
    """Put options into a label: ``{name}`` and nothing else, no format language."""
    text = re.sub(r"\{(\w+)\}", lambda match: str(options.get(match[1], match[0])), label)
    if "{" in text or "}" in text:
        raise UserError(f"{place}: label: {label!r} names an option not set here; write {{option}}")
    if not text.strip() or not text.isprintable():
        raise UserError(f"{place}: label: {label!r} must be printable text")
    return text
