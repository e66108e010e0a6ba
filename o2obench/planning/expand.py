"""A suite file to a plan: every run with its full identity, checked before anything starts."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .. import registry
from ..agent import Agent, Budget, Config, Stage
from ..datasets import statistics
from ..datasets.reference_scores import COLLECTED, KINDS, twin
from ..datasets.registry import canonical, find_dataset, is_collected, is_d4rl
from ..errors import BadInput
from ..runs.folder import Run, digest
from ..util.config import Located, merge, nearest, parse_scalar, read_yaml, validate
from .plan import USUAL_FIGURES, USUAL_TABLES, Cell, Plan, known_figure, known_table

EPOCH = 1000
"""Gradient updates in an offline epoch."""
EPISODES, FINAL_EPISODES = 10, 50
"""Evaluation episodes along the way, and at the switch and each stage's end. No suite cuts them."""

Count = Annotated[int, Field(gt=0, le=10**10)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
MOST_CELLS = 100_000


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Offline(_Strict):
    """Training without the environment, in epochs of 1,000 updates."""

    epochs: Count = 3000
    evaluate_every: Count = 10


class Online(_Strict):
    """Training with the environment, in steps."""

    steps: Count = 100_000
    evaluate_every: Count = 1000


class ReportOptions(_Strict):
    """What the report shows, in this order; ``marks`` are the steps at which it compares scores."""

    marks: tuple[Count, ...] = (10_000, 100_000)
    figures: tuple[Annotated[str, AfterValidator(known_figure)], ...] = USUAL_FIGURES
    tables: tuple[Annotated[str, AfterValidator(known_table)], ...] = USUAL_TABLES


class SuiteFile(_Strict):
    """What a suite file may hold."""

    title: str = ""
    algorithms: Annotated[list[str | dict[str, dict[str, Any]]], Field(min_length=1)]
    datasets: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[int, Field(gt=0, le=1000)] | Annotated[list[Seed], Field(min_length=1)] = 5
    offline: Offline = Offline()
    online: Online = Online()
    overrides: dict[str, dict[str, Any]] = {}
    reduced: dict[str, Any] = {}
    report: ReportOptions = ReportOptions()


def suite_names() -> list[str]:
    """Return the names of the suites that come with the package."""
    files = (f.name for f in resources.files("o2obench.suites").iterdir())
    return sorted(name[:-5] for name in files if name.endswith(".yaml") and not name.startswith("_"))


def find_suite(name: str) -> Path:
    """Return the file of a suite given by name or path; raise BadInput when there is none."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise BadInput(f"{name}: no such suite file; give a path or a name from `o2obench list`")
        return Path(name)
    if name not in suite_names():
        raise BadInput(f"suite {name}: not known; {nearest(name, suite_names())}")
    return Path(str(resources.files("o2obench.suites").joinpath(f"{name}.yaml")))


@dataclass(frozen=True)
class Narrow:
    """What the command line changes about a suite; None leaves it as the file has it."""

    seeds: tuple[int, ...] | None = None
    datasets: tuple[str, ...] | None = None
    algorithms: tuple[str, ...] | None = None
    data: str = ""
    """``o2o``: this project's collected sets in place of D4RL's."""
    defaults: bool = False

    def flags(self) -> str:
        """Return the command's flags that say the same."""
        chosen = {
            "--data": self.data,
            "--seeds": ",".join(map(str, self.seeds or ())) + ("," if len(self.seeds or ()) == 1 else ""),
            "--datasets": ",".join(self.datasets or ()),
            "--algorithms": ",".join(self.algorithms or ()),
        }
        said = [f" {flag} {value}" for flag, value in chosen.items() if value]
        return "".join(said) + (" --defaults" if self.defaults else "")


def read_suite(file: Path, narrow: Narrow = Narrow()) -> Plan:
    """Read, check and expand a suite file."""
    return expand(read_layers(file), file.stem, narrow, given=file.stem if _packaged(file) else str(file))


def _packaged(file: Path) -> bool:
    return file.stem in suite_names() and find_suite(file.stem).resolve() == file.resolve()


def read_layers(file: Path) -> Located:
    """Read a suite file on top of those it names by ``like: other`` or ``like: [one, two]``, key by key."""
    own = read_yaml(file)
    if not isinstance(own.value, dict) or "like" not in own.value:
        return own
    named = own.value["like"]
    names = [named] if isinstance(named, str) else named
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise BadInput(f"{own.at(('like',))}: like: expected a suite's name, or a list of names")
    layers = []
    for name in names:
        place = file.with_name(f"{name}.yaml")
        if name == file.stem or not (place.is_file() or name in suite_names()):
            raise BadInput(f"{own.at(('like',))}: like: {name}: not known; {nearest(name, suite_names())}")
        layers.append(read_layers(place if place.is_file() else find_suite(name)))
    value = {key: item for key, item in own.value.items() if key != "like"}
    return merge(*layers, Located(value, own.where))


def expand(source: Located, name: str, narrow: Narrow = Narrow(), given: str = "") -> Plan:
    """Expand a suite to its plan; raise BadInput listing what is wrong, where, and what to do.

    ``given`` is how the command line names it: by its name, or by a file.
    """
    full = validate(SuiteFile, source)
    cut, lines = _reduce(full, source)
    suite = validate(SuiteFile, cut)
    seeds = narrow.seeds or tuple(suite.seeds if isinstance(suite.seeds, list) else range(suite.seeds))
    if len(set(seeds)) < len(seeds):
        raise BadInput(f"{source.at(('seeds',))}: seeds: {list(seeds)} holds one seed twice")
    places = dict(itertools.islice(_named_sets(suite, source, narrow.data), MOST_CELLS))
    known = list(places)
    _not_mixed(known, source.at(("datasets",)))
    entries = list(itertools.islice(_entries(suite, cut), MOST_CELLS + 1))
    if len(entries) * len(known) * len(seeds) > MOST_CELLS:
        raise BadInput(f"{source.at(('algorithms',))}: the suite has over {MOST_CELLS:,} cells; cut a sweep")
    twice = sorted(label for label, n in Counter(entry.label for entry in entries).items() if n > 1)
    if twice:
        raise BadInput(f"{source.at(('algorithms',))}: algorithms: {twice[0]!r} stands twice; give labels")
    strangers = sorted(suite.overrides.keys() - set(registry.names()))
    if strangers:
        place = source.at(("overrides", strangers[0]))
        raise BadInput(f"{place}: overrides.{strangers[0]}: {nearest(strangers[0], registry.names())}")
    asked = tuple(_from(narrow.data, name) if name not in known else name for name in narrow.datasets or ())
    datasets = _narrowed("datasets", known, asked or None)
    chosen = _narrowed("algorithms", sorted({entry.algorithm for entry in entries}), narrow.algorithms)
    for data in datasets:
        with _told_at(places[data]):
            find_dataset(data)
    _require_data(datasets, chosen, from_file=bool(source.at(("datasets",))))
    builder = _Builder(suite, cut, narrow.defaults)
    builder.lines.update(dict.fromkeys(lines))
    full_seeds = full.seeds if isinstance(full.seeds, int) else len(full.seeds)
    if len(seeds) < full_seeds:
        builder.lines[f"seeds = {len(seeds)} (full: {full_seeds})"] = None
    cells = [
        builder.cell(entry, data, seed)
        for entry in entries
        if entry.algorithm in chosen
        for data in datasets
        for seed in seeds
    ]
    if builder.problems:
        raise BadInput(*dict.fromkeys(builder.problems))
    return Plan(
        suite=f"{name}-{narrow.data}" if narrow.data else name,
        title=f"{suite.title} ({narrow.data} data)" if narrow.data else suite.title,
        command=f"o2obench suite {quote(given or name)}{narrow.flags()}",
        seeds=tuple(seeds),
        reduced=tuple(builder.lines),
        marks=suite.report.marks,
        runs=tuple(builder.runs.values()),
        cells=tuple(cell for cell in cells if cell is not None),
        stages=builder.stages,
        scores={data: find_dataset(data).scores for data in datasets},
        figures=suite.report.figures,
        tables=suite.report.tables,
        data={name: both for name in datasets if (both := statistics.mean_and_best(find_dataset(name)))},
    )


def single(
    algorithm: str, data: str, seed: int, options: Sequence[str], budget: tuple[int, int, int], narrow: Narrow
) -> Plan:
    """Return the plan of one run; ``budget`` is (epochs, steps, every).

    ``options`` are ``key=value``, those of the pretraining it starts from ``mopo.key=value``.
    """
    before = registry.algorithm(algorithm).pretrain
    own: dict[str, Any] = {}
    of_pretraining: dict[str, Any] = {}
    where: dict[tuple[str | int, ...], str] = {}
    for text in options:
        path, equals, value = text.partition("=")
        if not equals:
            raise BadInput(f"--set {text}: expected key=value")
        name, dot, key = path.rpartition(".")
        if dot and name != before:
            raise BadInput(f"--set {text}: {algorithm} starts from {before or 'nothing'}, not from {name}")
        (of_pretraining if dot else own)[key] = parse_scalar(value)
        place = ("overrides", name) if dot else ("algorithms", 0, algorithm)
        where[*place, key] = f"--set {text}"
    epochs, steps, every = budget
    suite = {
        "algorithms": [{algorithm: own}],
        "datasets": [data],
        "seeds": [seed],
        "offline": {"epochs": epochs, "evaluate_every": min(epochs, Offline().evaluate_every)},
        "online": {"steps": steps, "evaluate_every": every},
        "overrides": {before: of_pretraining} if of_pretraining else {},
    }
    return expand(Located(suite, where), f"{algorithm} on {data}", narrow)


@dataclass(frozen=True)
class _Entry:
    """One line of ``algorithms:`` after sweeps are multiplied out."""

    algorithm: str
    label: str
    options: Located


def _entries(suite: SuiteFile, source: Located) -> Iterator[_Entry]:
    """Yield an entry per combination of the swept options."""
    for i, item in enumerate(suite.algorithms):
        if not isinstance(item, str) and len(item) != 1:
            raise BadInput(f"{source.at(('algorithms', i))}: algorithms: one algorithm per list item")
        algorithm, options = (item, None) if isinstance(item, str) else next(iter(item.items()))
        with _told_at(source.at(("algorithms", i))):
            fields = registry.algorithm(algorithm).Config.model_fields
        if options is None:
            yield _Entry(algorithm, algorithm, Located({}))
            continue
        place = source.child("algorithms", i, algorithm)
        for key in options.keys() - fields.keys() - {"label"}:
            raise BadInput(f"{place.at((key,))}: {algorithm}.{key}: unknown key; {nearest(key, fields)}")
        swept = {
            key: value
            for key, value in options.items()
            if isinstance(value, list) and key in fields and "tuple" not in str(fields[key].annotation)
        }
        for key in (key for key, values in swept.items() if not values):
            raise BadInput(f"{place.at((key,))}: {algorithm}.{key}: an empty sweep; name at least one value")
        label = str(options.get("label", algorithm))
        for values in itertools.product(*swept.values()):
            chosen = dict(zip(swept, values, strict=True))
            plain = {k: chosen.get(k, v) for k, v in options.items() if k != "label"}
            text = _fill(label, plain, place.at(("label",)))
            if swept and "label" not in options:
                text = f"{algorithm} ({', '.join(f'{k}={v}' for k, v in chosen.items())})"
            yield _Entry(algorithm, text, Located(plain, place.where))


def _fill(label: str, options: dict[str, Any], place: str) -> str:
    """Put options into a label: ``{name}`` and nothing else, no format language."""
    text = re.sub(r"\{(\w+)\}", lambda match: str(options.get(match[1], match[0])), label)
    if "{" in text or "}" in text:
        raise BadInput(f"{place}: label: {label!r} names an option not set here; write {{option}}")
    if not text.strip() or not text.isprintable():
        raise BadInput(f"{place}: label: {label!r} must be printable text")
    return text


AS_IT_IS = Located({})
"""No options: how a pretraining run is made."""


@dataclass(frozen=True)
class _Computation:
    """What all seeds of an algorithm share on a data set."""

    spec: dict[str, Any]
    place: str
    """The data set, or the environment where no data are used."""
    pretrain: str | None


class _Builder:
    """Collects runs while cells are built, each run once however many cells show it."""

    def __init__(self, suite: SuiteFile, source: Located, defaults: bool) -> None:
        self.suite, self.source, self.defaults = suite, source, defaults
        self.runs: dict[str, Run] = {}
        self.made: dict[tuple[str, str, int, int], Run] = {}
        self.computations: dict[tuple[str, str, int], _Computation] = {}
        self.stages: dict[str, Sequence[Stage]] = {}
        self.problems: list[str] = []
        self.lines: dict[str, None] = {}

    def cell(self, entry: _Entry, data: str, seed: int) -> Cell | None:
        """Build the cell and, where they are new, its run and that run's parent."""
        try:
            run = self.run(entry.algorithm, data, seed, entry.options)
        except BadInput as error:
            self.problems.extend(error.problems)
            return None
        return Cell(entry.label, entry.algorithm, data, seed, run.id, run.parent)

    def run(self, name: str, data: str, seed: int, options: Located) -> Run:
        """Return the run of a seed; its parent is made first."""
        known = (name, data, seed, id(options))
        if known not in self.made:
            parts = self.computation(name, data, options)
            parent = self.run(parts.pretrain, data, seed, AS_IT_IS) if parts.pretrain else None
            run = Run(name, parts.place, seed, parts.spec, parent.id if parent else None)
            self.made[known] = self.runs.setdefault(run.id, run)
        return self.made[known]

    def computation(self, name: str, data: str, options: Located) -> _Computation:
        """Return what all seeds of an algorithm share on a data set."""
        known = (name, data, id(options))
        if known not in self.computations:
            self.computations[known] = self._computation(name, data, options)
        return self.computations[known]

    def _computation(self, name: str, data: str, options: Located) -> _Computation:
        agent = registry.algorithm(name)
        parent = self.computation(agent.pretrain, data, AS_IT_IS) if agent.pretrain else None
        found = find_dataset(data)
        if agent.needs_terminal and found.env.terminal is None:
            raise BadInput(
                f"{name} on {data}: nobody has written down when {found.env.id} ends, which "
                "rollouts in a model need; register an EnvSpec with `terminal` by the entry point "
                "o2obench.environments"
            )
        if agent.uses_data or parent:
            found.admit()
        config = self.config(agent, name, data, options)
        budget = Budget(self.suite.offline.epochs * EPOCH, self.suite.online.steps)
        stages = agent.stages(config, budget)
        steps, without = sum(s.env_steps for s in stages), any(not s.env_steps for s in stages)
        spec = {
            "algorithm": name,
            "version": [agent.version, agent.kit_version],
            "config": config.model_dump(mode="json"),
            "data": {"name": found.key, "sha256": found.sha256()} if agent.uses_data or parent else None,
            "environment": found.env.id,
            "budget": {
                "offline_updates": budget.offline_updates if without else 0,
                "online_steps": steps,  # what it takes, not what the suite offers
            },
            "protocol": {
                "steps": self.suite.online.evaluate_every if steps else 0,
                "updates": self.suite.offline.evaluate_every * EPOCH if without else 0,
                "episodes": EPISODES,
                "final_episodes": FINAL_EPISODES,
            },
            "parent": digest(parent.spec) if parent else None,
        }
        self.stages[digest(spec)] = stages
        return _Computation(spec, data if spec["data"] else found.env.id, agent.pretrain)

    def _value(self, key: str, value: Any, data: str) -> Any:
        """Return an option's value; an algorithm's name stands for its value on the data set."""
        if not (isinstance(value, str) and value in registry.names()):
            return value
        other = registry.algorithm(value)
        return getattr(self.config(other, value, data, Located({})), key, value)

    def config(self, agent: type[Agent[Any]], name: str, data: str, options: Located) -> Config:
        """Merge the algorithm's own options, its row for the data set, the suite's and the reduction."""
        file = registry.options_file(agent, name)
        known = file.value.get("datasets", {})
        like = data if data in known else twin(data)
        rows = [key for key in known if fnmatch.fnmatchcase(like, key)]
        if agent.needs_row and not rows and not self.defaults:
            raise BadInput(
                f"{name} on {data}: no row in its configs/{name}.yaml; add one, or accept the defaults "
                "with --defaults"
            )
        rows.sort(key=lambda key: (key == like, len(key.replace("*", ""))))  # exact name last: it wins
        layers = [file.child("default")] if "default" in file.value else []
        layers += [file.child("datasets", row) for row in rows]
        layers += [self.source.child("overrides", name)] if name in self.suite.overrides else []
        layers.append(Located({k: self._value(k, v, data) for k, v in options.value.items()}, options.where))
        full = validate(agent.Config, merge(*layers), (name,))
        if name not in self.suite.reduced:
            return full
        cut = self.source.child("reduced", name)
        config = validate(agent.Config, merge(*layers, cut), (name,))
        self.lines.update(dict.fromkeys(_reductions(name, config, full, cut)))
        return config


def _reductions(part: str, config: BaseModel, full: BaseModel, cut: Located) -> list[str]:
    """Return a line for each count that ``cut`` lowers: ``part.key = value (full: value)``."""
    lines = [_reduction(f"{part}.{key}", config, full, key, cut.at((key,))) for key in cut.value]
    return [line for line in lines if line]


def _reduction(shown: str, config: BaseModel, full: BaseModel, key: str, place: str) -> str:
    """Return ``key = value (full: value)``, nothing where both are equal; refuse more, and no count."""
    extra = type(full).model_fields[key].json_schema_extra
    if isinstance(full, Config) and not (isinstance(extra, dict) and extra.get("count")):
        raise BadInput(f"{place}: reduced.{shown}: is not a count; a reduced suite may only cut counts")
    now, before = getattr(config, key), getattr(full, key)
    if before is not None and (now is None or now > before):
        raise BadInput(f"{place}: reduced.{shown}: {now} is more than the full {before}")
    if now == before:
        return ""
    return f"{shown} = {now:,} (full: {'no limit' if before is None else f'{before:,}'})"


def _reduce(full: SuiteFile, source: Located) -> tuple[Located, list[str]]:
    """Apply the cuts of ``reduced`` to the suite's own counts; the algorithms' wait for their configs."""
    if not full.reduced:
        return source, []
    where, value, lines = dict(source.where), dict(source.value), list[str]()
    known = {"offline", "online", "seeds", *registry.names()}
    for key, cut in full.reduced.items():
        place = source.at(("reduced", key))
        if key not in known:
            raise BadInput(f"{place}: reduced.{key}: unknown key; {nearest(key, known)}")
        if key == "seeds":
            value["seeds"] = cut
        elif not isinstance(cut, dict):
            raise BadInput(f"{place}: reduced.{key}: expected options in braces, got {cut!r}")
        elif key in ("offline", "online"):
            value[key] = {**value.get(key, {}), **cut}
            where.update({(key, k): source.at(("reduced", key, k)) for k in cut})
            before = getattr(full, key)
            after = validate(type(before), Located(value, where).child(key), (key,))
            lines += _reductions(key, after, before, source.child("reduced", key))
    return Located(value, where), lines


def _named_sets(suite: SuiteFile, source: Located, data: str) -> Iterator[tuple[str, str]]:
    """Yield every data set's name and where it stands."""
    for i, pattern in enumerate(suite.datasets):
        place = source.at(("datasets", i))
        with _told_at(place):
            yield from ((_from(data, canonical(name)), place) for name in _braces(pattern))


@contextmanager
def _told_at(place: str) -> Iterator[None]:
    """Put a file's line before what is refused."""
    try:
        yield
    except BadInput as error:
        raise BadInput(*(f"{place}: {problem}" if place else problem for problem in error.problems)) from None


def _narrowed(what: str, known: Sequence[str], chosen: tuple[str, ...] | None) -> Sequence[str]:
    for name in chosen or ():
        if name not in known:
            raise BadInput(f"--{what}: {name}: not in this suite; {nearest(name, known)}")
    return [name for name in known if not chosen or name in chosen]


def _from(source: str, name: str) -> str:
    """Return the name of a D4RL set, or of the set in its place that ``source`` (o2o) names."""
    match = re.fullmatch(rf"([a-z0-9]+)-({'|'.join(KINDS)})-v\d+", name)
    if not source or COLLECTED.fullmatch(name):
        return name
    if source != "o2o":
        raise BadInput(f"--data {source}: not known; o2o names the sets collected by this project")
    if not match:
        raise BadInput(f"--data o2o: {name}: has no collected set in its place; narrow with --datasets")
    return f"o2o:{match[1]}-{match[2]}-v0"


def _not_mixed(names: Sequence[str], place: str) -> None:
    """Refuse D4RL's sets and collected ones in one suite: a mean over both would mean nothing."""
    collected = [name for name in names if is_collected(name)]
    d4rl = [name for name in names if is_d4rl(name)]
    if collected and d4rl:
        raise BadInput(
            f"{place}: datasets: {d4rl[0]} is D4RL's and {collected[0]} was collected here; results of the "
            "two are not comparable, put them into two suites"
        )


def _require_data(names: Sequence[str], algorithms: Sequence[str], from_file: bool) -> None:
    """Raise BadInput listing all data sets that are not on this machine, and how to get them."""
    classes = [registry.algorithm(name) for name in algorithms]
    if not any(agent.uses_data or agent.pretrain for agent in classes):
        return
    missing = [found for found in map(find_dataset, names) if not found.present]
    if not missing:
        return
    lines = [f"dataset {found.name}: {found.file} is missing; {found.remedy()}" for found in missing]
    if len(missing) > 1:
        fetched = [found.name for found in missing if found.scores.folder]
        lines = [f"dataset {found.name}: {found.file} is missing" for found in missing]
        lines.append(
            f"get them with `o2obench data fetch {' '.join(fetched)}`"
            if fetched
            else "`make data` makes random and medium, `o2obench data collect TASK --kind KIND` the others"
        )
        lines.append(
            "or put the files there, or name their folder in O2OBENCH_DATA, or narrow with --datasets"
        )
    if from_file and any(is_d4rl(found.name) for found in missing):
        lines.append("without D4RL's files: --data o2o runs the same grid on sets collected by this project")
    raise BadInput(*lines)


def _braces(pattern: str) -> Iterator[str]:
    """Expand ``{a,b}-{c,d}`` to all combinations."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        yield pattern
        return
    for choice in match[1].split(","):
        yield from _braces(pattern[: match.start()] + choice.strip() + pattern[match.end() :])
