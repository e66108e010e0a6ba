"""A suite to its plan: every run with its full identity, checked before anything starts."""

from __future__ import annotations

import fnmatch
import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import registry
from ..agent import Agent, Budget, Config, Stage
from ..datasets import policy_files, statistics
from ..datasets.reference_scores import COLLECTED, KINDS, twin
from ..datasets.registry import MINARI_D4RL, Dataset, canonical, find_dataset, is_collected, is_d4rl
from ..errors import MissingData, UserError, told_at
from ..runs.folder import ResultsFolder
from ..runs.spec import DataSource, Protocol, Run, RunSpec
from ..util.config import Located, merge, nearest, parse_scalar, validate
from ..util.files import as_argument, shown
from .collections import collection, is_collectable, require_recipe, stages
from .entries import (
    NO_OPTIONS,
    NO_POLICY,
    POLICY_FILE,
    Entry,
    Pretraining,
    all_entries,
    controls,
    default_pretraining,
    one_and_the_same,
    require_policy_named,
)
from .load import find_suite, is_packaged, read_layers, suite_names
from .plan import SUITE_NAME, Experiment, Plan
from .reduce import is_count, reduce_suite, reductions
from .schema import (
    EPISODES,
    EVERYTHING,
    FINAL_EPISODES,
    MOST_EXPERIMENTS,
    OFFLINE_EVERY,
    Collect,
    Selection,
    SuiteFile,
    evaluation_schedule,
)
from .set_names import braces

SHAPES = {"widths", "members", "norms"}
"""Marks of the options that decide networks' shapes."""


def read_suite(file: Path, selection: Selection = EVERYTHING, results: ResultsFolder | None = None) -> Plan:
    """Read, check and expand a suite file."""
    if not SUITE_NAME.fullmatch(file.stem):
        raise UserError(
            f"{shown(file)}: {file.stem!r} cannot be the name of a suite, which stands in names of files and "
            "jobs; rename the file, with letters, digits, blanks and . , - _ + = @ ( )"
        )
    argument = file.stem if is_packaged(file) else str(file)
    source = read_layers(file)
    require_policy_named(source)
    plan = expand(source, file.stem, selection, argument, file.parent, results)
    return replace(plan, verified=_verified(plan, file)) if plan.protocol else plan


def _verified(plan: Plan, file: Path) -> tuple[tuple[str, str], ...]:
    """Return each (method, data set) of a standing protocol that is the package's own, as it stands there.

    Of a copy that somebody changed it is what the package's suite of this name expands to, too.
    """
    if file.stem not in suite_names():
        return ()
    own = find_suite(file.stem)
    if own.samefile(file):
        return tuple(plan.groups)
    common = tuple(name for name in suite_datasets(own) if name in plan.scores)
    known = read_suite(own, Selection(seeds=(0,), datasets=common)).groups if common else {}
    return tuple(entry for entry, group in plan.groups.items() if known.get(entry) == group)


def suite_datasets(file: Path) -> list[str]:
    """Return the names of the data sets of a suite file, whether or not they are on this machine."""
    source = read_layers(file)
    return list(dict.fromkeys(used for _, used, _ in _named_sets(validate(SuiteFile, source), source, "")))


def expand(
    source: Located,
    name: str,
    selection: Selection = EVERYTHING,
    argument: str = "",
    folder: Path = Path(),
    results: ResultsFolder | None = None,
    with_parents: bool = True,
) -> Plan:
    """Expand a suite to its plan; raise UserError listing what is wrong, where, and what to do.

    ``argument`` is how the command line names it: by its name, or by a file. Policies that it names by a
    relative path lie in ``folder``; of one that is gone, ``results`` may hold a copy.
    """
    full = validate(SuiteFile, source)
    cut, lines = reduce_suite(full, source)
    suite = validate(SuiteFile, cut)
    seeds = selection.seeds or tuple(suite.seeds if isinstance(suite.seeds, list) else range(suite.seeds))
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{source.at(('seeds',))}: seeds: {list(seeds)} holds one seed twice; name each once")
    named = list(itertools.islice(_named_sets(suite, source, selection.data), MOST_EXPERIMENTS))
    places, called = {used: place for _, used, place in named}, {name: used for name, used, _ in named}
    _require_one_origin(list(places), source.at(("datasets",)))
    copies = results.policies if results else None
    find = functools.cache(lambda name: policy_files.find(folder / name, copies))
    entries = all_entries(suite, cut, find, called, len(seeds))
    _require_known_overrides(suite, source)
    _require_used(places, entries)
    datasets = _selected_sets(places, selection)
    chosen = _selected("algorithms", sorted({e.algorithm for e in entries}), selection.algorithms)
    selected = [entry for entry in entries if entry.algorithm in chosen]
    selected += controls(suite, entries, selected)
    datasets = [data for data in datasets if any(data in entry.datasets for entry in selected)]
    if not datasets:
        raise UserError(
            "--datasets, --algorithms: none of these algorithms runs on these data sets; name others"
        )
    _require_reference(suite, source, [*entries, *controls(suite, entries, entries)])
    _require_data(datasets, selected, from_file=bool(source.at(("datasets",))))
    _require_hashes(suite, source, called, datasets)
    with told_at(source.at(("collect",))):
        for data in filter(None, map(_present, datasets)):
            require_recipe(data, suite.collect)
    builder = _Builder(suite, cut, selection.defaults, results, with_parents)
    builder.lines.update(dict.fromkeys(lines))
    full_seeds = full.seeds if isinstance(full.seeds, int) else len(full.seeds)
    if len(seeds) < full_seeds:
        builder.lines[f"seeds = {len(seeds)} (full: {full_seeds})"] = None
    experiments = [
        builder.experiment(entry, data, seed)
        for entry in selected
        for data in datasets
        if data in entry.datasets
        for seed in seeds
    ]
    if builder.problems:
        raise UserError(*dict.fromkeys(builder.problems))
    if not selection.datasets:  # on some data sets alone two may well be equal
        _require_different_pretrainings(
            [experiment for experiment in experiments if experiment], source.at(("algorithms",))
        )
    return Plan(
        suite=f"{name}-{selection.data}" if selection.data else name,
        title=f"{suite.title} ({selection.data} data)" if selection.data else suite.title,
        command=f"o2obench suite {as_argument(argument or name)}{selection.flags()}",
        seeds=tuple(seeds),
        reduced=tuple(builder.lines),
        reporting_steps=suite.report.reporting_steps,
        runs=tuple(builder.runs.values()),
        experiments=tuple(experiment for experiment in experiments if experiment is not None),
        stages=builder.stages,
        schedules=builder.schedules,
        scores={data: find_dataset(data).scores for data in datasets},
        figures=suite.report.figures,
        tables=suite.report.tables,
        reference=suite.report.reference,
        data={d.name: both for d in map(_present, datasets) if d and (both := statistics.mean_and_best(d))},
        policy_files={p.policy.sha256: p.policy for e in selected if (p := e.pretraining) and p.policy},
        protocol=suite.protocol,
        tuning_runs={e.method: e.tuning_runs for e in selected if e.tuning_runs is not None},
    )


def single(
    algorithm: str,
    data: str,
    seed: int,
    options: Sequence[str],
    budget: tuple[int, int, int],
    selection: Selection,
    start: str = "",
    results: ResultsFolder | None = None,
    with_parents: bool = True,
) -> Plan:
    """Return the plan of one run; ``budget`` is (offline updates, online steps, steps between evaluations).

    ``options`` are ``key=value``, those of the pretraining it starts from ``mopo.key=value``. ``start`` names
    another pretraining than the algorithm's own, or a policy's file. Where not ``with_parents``, what it
    starts from is not computed and need not fit.
    """
    if algorithm == POLICY_FILE:
        raise UserError(NO_POLICY)
    before = start or registry.algorithm(algorithm).pretrain or ""
    own: dict[str, Any] = {}
    of_pretraining: dict[str, Any] = {}
    where: dict[tuple[str | int, ...], str] = {("algorithms", 0, algorithm, "from"): f"--from {start}"}
    for text in options:
        path, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: expected key=value")
        name, dot, key = path.rpartition(".")
        if dot and name != before:
            raise UserError(f"--set {text}: {algorithm} starts from {before or 'nothing'}, not from {name}")
        (of_pretraining if dot else own)[key] = parse_scalar(value)
        place = ("overrides", name) if dot else ("algorithms", 0, algorithm)
        where[*place, key] = f"--set {text}"
    updates, steps, every = budget
    suite = {
        "algorithms": [{algorithm: {**own, "from": start} if start else own}],
        "datasets": [data],
        "seeds": [seed],
        "offline": {"updates": updates, "evaluate_every": min(updates, OFFLINE_EVERY)},
        "online": {"steps": steps, "evaluate_every": every},
        "frozen": False,
        "overrides": {before: of_pretraining} if of_pretraining else {},
    }
    name = f"{algorithm} on {data}"
    return expand(Located(suite, where), name, selection, results=results, with_parents=with_parents)


# ---- runs ---------------------------------------------------------------------------------------------


class _Builder:
    """Collects runs while experiments are built, each run once however many experiments show it."""

    def __init__(
        self,
        suite: SuiteFile,
        source: Located,
        defaults: bool,
        results: ResultsFolder | None,
        with_parents: bool,
    ) -> None:
        self.suite, self.source, self.defaults, self.results = suite, source, defaults, results
        self.with_parents = with_parents
        self.runs: dict[str, Run] = {}
        self.specs: dict[Any, RunSpec] = {}
        self.stages: dict[str, Sequence[Stage]] = {}
        self.schedules: dict[str, Mapping[str, int]] = {}
        self.problems: list[str] = []
        self.lines: dict[str, None] = {}
        self.parents: dict[int, Entry] = {}
        self.misfits: dict[tuple[str, ...], str] = {}

    def experiment(self, entry: Entry, data: str, seed: int) -> Experiment | None:
        """Build the experiment and, where they are new, its run and that run's parent."""
        try:
            run = self._run(entry, data, seed)
        except UserError as error:
            if not (entry.automatic and self.problems):  # its method has said it already
                self.problems.extend(error.problems)
            return None
        start = entry.pretraining.label if entry.pretraining else ""
        named = (entry.method, entry.algorithm, data, seed, run.id, run.parent)
        return Experiment(*named, pretraining=start, automatic=entry.automatic)

    def _run(self, entry: Entry, data: str, seed: int) -> Run:
        """Return the run of a seed; its parent is made first."""
        spec = self._spec(entry, data)
        parent = self._run(self._parent(entry, entry.pretraining), data, seed) if entry.pretraining else None
        run = Run(data if spec.data else spec.environment, seed, spec, parent.id if parent else None)
        return self.runs.setdefault(run.id, run)

    def _parent(self, entry: Entry, pretraining: Pretraining) -> Entry:
        """Return the pretraining of an entry as one of its own, the same for all its runs."""
        if id(entry) not in self.parents:
            self.parents[id(entry)] = _parent(pretraining)
        return self.parents[id(entry)]

    def _spec(self, entry: Entry, data: str) -> RunSpec:
        """Return what all seeds of an entry share on a data set."""
        start = entry.pretraining.key if entry.pretraining else None
        key = (entry.algorithm, data, repr(entry.options.value), start)
        if key not in self.specs:
            self.specs[key] = self._new_spec(entry, data)
        return self.specs[key]

    def _new_spec(self, entry: Entry, data: str) -> RunSpec:
        name, agent = entry.algorithm, registry.algorithm(entry.algorithm)
        parent = self._spec(_parent(entry.pretraining), data) if entry.pretraining else None
        if parent and (parent.parent or parent.budget.online_steps):
            place = entry.options.at(("from",))
            raise UserError(
                f"{place + ': ' if place else ''}{name}.from: {parent.algorithm} learns online; name a "
                "pretraining that starts from nothing and takes no environment step"
            )
        dataset = find_dataset(data)
        if agent.needs_terminal and dataset.env.terminal is None:
            raise UserError(
                f"{name} on {data}: nobody has written down when {dataset.env.id} ends, which "
                'rollouts in a model need; write `"terminal": "never"` or a comparison to the data card, or '
                "name a function by --terminal MODULE:FUNCTION (docs/data.md)"
            )
        if entry.pretraining and (policy := entry.pretraining.policy):
            policy.require_shape(dataset.env.obs_dim, dataset.env.act_dim, data)
        uses_data = agent.uses_data or bool(parent and parent.data)
        config = self._config(agent, entry, data)
        if entry.pretraining and self.with_parents:
            self._require_fit(entry, config, data)
        budget = Budget(self.suite.offline.updates, self.suite.online.steps)
        stages = agent.stages(config, budget)
        steps = sum(stage.env_steps for stage in stages)
        offline = any(stage.updates for stage in stages if not stage.env_steps)
        spec = RunSpec(
            algorithm=name,
            versions=registry.versions(name),
            config=config.identity(),
            environment=dataset.env.id,
            terminal=dataset.env.rule,
            data=self._data(dataset) if uses_data else None,
            # what it takes, not what the suite offers
            budget=Budget(budget.offline_updates if offline else 0, steps),
            protocol=Protocol(
                evaluation_schedule(self.suite.online.evaluate_every) if steps else 0,
                evaluation_schedule(self.suite.offline.evaluate_every) if offline else 0,
                EPISODES,
                FINAL_EPISODES,
            ),
            parent=parent.hash if parent else None,
        )
        self.stages[spec.hash] = stages
        self.schedules[spec.hash] = agent.schedule(config) if steps else {}
        return spec

    def _require_fit(self, entry: Entry, config: Config, data: str) -> None:
        """Refuse a pretraining whose networks an algorithm cannot take over."""
        assert entry.pretraining
        agent, start = registry.algorithm(entry.algorithm), _parent(entry.pretraining)
        parent = registry.algorithm(start.algorithm)
        of_parent = self._config(parent, start, data)
        if start.algorithm == agent.pretrain and not _other_networks(config, of_parent):
            return
        key = (entry.algorithm, config.model_dump_json(), start.algorithm, of_parent.model_dump_json())
        if key not in self.misfits:
            self.misfits[key] = agent.misfit(config, parent, of_parent)
        if self.misfits[key]:
            own = start.algorithm == agent.pretrain
            place = entry.options.at(() if own else ("from",))
            remedy = "give both the same widths and numbers of networks"
            remedy = remedy if own else f"start from {agent.pretrain}, its own"
            raise UserError(
                f"{place + ': ' if place else ''}{entry.algorithm} cannot go on from "
                f"{entry.pretraining.label}: {self.misfits[key]}; {remedy}"
            )

    def _data(self, dataset: Dataset) -> DataSource:
        """Return what a run is trained on: data that are here, or that a run of this plan collects."""
        if dataset.present:
            dataset.admit()
        if dataset.present and not dataset.recipe:
            return DataSource(dataset.key, dataset.sha256())
        run = collection(dataset.name, self.suite.collect or Collect())
        if not dataset.present or self._has_collected(run, dataset):
            self.runs.setdefault(run.id, run)
            self.stages[run.group], self.schedules[run.group] = stages(run), {}
        return DataSource(dataset.key, recipe=dataset.recipe if dataset.present else run.identity)

    def _has_collected(self, run: Run, dataset: Dataset) -> bool:
        """Tell whether a run of this results folder has collected a data set that is here."""
        is_its = run.identity == dataset.recipe
        return is_its and self.results is not None and self.results.run(run.id).record.exists()

    def _value(self, key: str, value: Any, data: str) -> Any:
        """Return an option's value; an algorithm's name stands for its value on the data set."""
        if not (isinstance(value, str) and value in registry.names()):
            return value
        other = Entry(value, value, NO_OPTIONS, None)
        return getattr(self._config(registry.algorithm(value), other, data), key, value)

    def _config(self, agent: type[Agent[Any]], entry: Entry, data: str) -> Config:
        """Merge the algorithm's own options, its row for the data set, the suite's and the reduction.

        What an entry says itself is not cut: it is what that entry is there for.
        """
        name, file = entry.algorithm, registry.options_file(agent, entry.algorithm)
        table = file.value.get("datasets", {})
        like = data if data in table else twin(data)
        rows = [key for key in table if fnmatch.fnmatchcase(like, key)]
        if agent.needs_row and not rows and not self.defaults:
            raise UserError(
                f"{name} on {data}: no row in its configs/{name}.yaml; add one, or accept the defaults "
                "with --defaults"
            )
        rows.sort(key=lambda key: (key == like, len(key.replace("*", ""))))  # exact name last: it wins
        layers = [file.child("default")] if "default" in file.value else []
        layers += [file.child("datasets", row) for row in rows]
        layers += [self.source.child("overrides", name)] if name in self.suite.overrides else []
        own = {key: self._value(key, value, data) for key, value in entry.options.value.items()}
        layers.append(Located(own, entry.options.where))
        full = validate(agent.Config, merge(*layers), (name,))
        if name not in self.suite.reduced:
            return full
        cut = self.source.child("reduced", name)
        named = {key for key in entry.options.value if is_count(agent.Config, key)}
        cut = Located({key: value for key, value in cut.value.items() if key not in named}, cut.where)
        config = validate(agent.Config, merge(*layers, cut), (name,))
        self.lines.update(dict.fromkeys(reductions(name, config, full, cut)))
        return config


def _other_networks(config: Config, of_parent: Config) -> bool:
    """Tell whether two algorithms differ in an option of both that decides networks' shapes."""
    fields = type(config).model_fields
    for name in fields.keys() & type(of_parent).model_fields.keys():
        marks = fields[name].json_schema_extra
        shapes = isinstance(marks, dict) and not SHAPES.isdisjoint(marks)
        if shapes and getattr(config, name) != getattr(of_parent, name):
            return True
    return False


def _parent(pretraining: Pretraining) -> Entry:
    """Return a pretraining as an entry of its own; it may start from another in turn."""
    before = default_pretraining(registry.algorithm(pretraining.algorithm))
    return Entry(pretraining.algorithm, pretraining.label, pretraining.options, before)


# ---- data sets and other names ------------------------------------------------------------------------


def _named_sets(suite: SuiteFile, source: Located, data: str) -> Iterator[tuple[str, str, str]]:
    """Yield every data set's name in the suite, the name of the one that is used, and where it stands."""
    for i, pattern in enumerate(suite.datasets):
        place = source.at(("datasets", i))
        with told_at(place):
            yield from ((name, _from(data, name), place) for name in map(canonical, braces(pattern)))


def _selected(option: str, names: Sequence[str], chosen: tuple[str, ...] | None) -> Sequence[str]:
    for name in chosen or ():
        if name not in names:
            raise UserError(f"--{option}: {name}: not in this suite; {nearest(name, names)}")
    return [name for name in names if not chosen or name in chosen]


def _present(name: str) -> Dataset | None:
    """Return a data set that is on this machine."""
    data = find_dataset(name)
    return data if data.present else None


def _selected_sets(places: Mapping[str, str], selection: Selection) -> Sequence[str]:
    """Return the data sets to use; each must exist."""
    names = list(places)
    requested = tuple(_from(selection.data, n) if n not in names else n for n in selection.datasets or ())
    datasets = _selected("datasets", names, requested or None)
    for data in datasets:
        with told_at(places[data]):
            find_dataset(data)
    return datasets


def _from(source: str, name: str) -> str:
    """Return the name of a D4RL set, or of the set in its place that ``source`` (o2o) names."""
    match = re.fullmatch(rf"([a-z0-9]+)-({'|'.join(KINDS)})-v\d+", name)
    if not source or COLLECTED.fullmatch(name):
        return name
    if source != "o2o":
        raise UserError(f"--data {source}: not known; o2o names the sets collected by this project")
    if not match:
        raise UserError(f"--data o2o: {name}: has no collected set in its place; narrow with --datasets")
    return f"o2o:{match[1]}-{match[2]}-v0"


def _require_one_origin(names: Sequence[str], place: str) -> None:
    """Refuse D4RL's sets beside collected ones, or Minari's of the same tasks: a mean would mean nothing."""
    d4rl = [name for name in names if is_d4rl(name)]
    for others, origin in (
        ([name for name in names if is_collected(name)], "was collected here"),
        ([name for name in names if name.startswith(MINARI_D4RL)], "is Minari's, of another environment"),
    ):
        if others and d4rl:
            raise UserError(
                f"{place}: datasets: {d4rl[0]} is D4RL's and {others[0]} {origin}; results of the two are "
                "not comparable, put them into two suites"
            )


def _require_known_overrides(suite: SuiteFile, source: Located) -> None:
    unknown = sorted(suite.overrides.keys() - set(registry.names()))
    if unknown:
        place = source.at(("overrides", unknown[0]))
        raise UserError(f"{place}: overrides.{unknown[0]}: {nearest(unknown[0], registry.names())}")


def _require_reference(suite: SuiteFile, source: Located, entries: Sequence[Entry]) -> None:
    name, methods = suite.report.reference, [entry.method for entry in entries]
    if name and name not in methods:
        place = source.at(("report", "reference"))
        raise UserError(
            f"{place}: report.reference: {name}: no method of this suite; {nearest(name, methods)}"
        )


def _require_used(places: Mapping[str, str], entries: Sequence[Entry]) -> None:
    """Refuse a data set that no entry runs on."""
    used = {data for entry in entries for data in entry.datasets}
    for data, place in places.items():
        if data not in used:
            raise UserError(
                f"{place}: datasets: {data}: no entry runs on it; leave it out, or name it in one"
            )


def _require_hashes(
    suite: SuiteFile, source: Located, called: Mapping[str, str], datasets: Sequence[str]
) -> None:
    """Refuse data whose file is not the one that the suite names by its SHA-256."""
    for key, sha256 in suite.sha256.items():
        name, place = canonical(key), f"{source.at(('sha256', key))}: sha256.{key}"
        if name not in called:
            raise UserError(f"{place}: no data set of this suite; {nearest(name, called)}")
        if name not in datasets:  # another is used in its place, or none
            continue
        data = find_dataset(name)
        if not data.present:
            raise UserError(f"{place}: it is not here, and a set collected now is another; {data.by_hand()}")
        if data.sha256() != sha256:
            raise UserError(
                f"{place}: {data.file or name} has SHA-256 {data.sha256()[:12]}, this suite is of "
                f"{sha256[:12]}; use that file, or a suite of your own without this line"
            )


def _require_data(names: Sequence[str], entries: Sequence[Entry], from_file: bool) -> None:
    """Raise MissingData listing all data sets that are not on this machine, and how to get them."""
    users = [e for e in entries if registry.algorithm(e.algorithm).uses_data or e.pretraining]
    needed = [find_dataset(name) for name in names if any(name in entry.datasets for entry in users)]
    missing = [data for data in needed if not data.present and not is_collectable(data)]
    if not missing:
        return
    lines = [f"dataset {dataset.name}: {dataset.file} is missing; {dataset.remedy()}" for dataset in missing]
    if len(missing) > 1:
        names = " ".join(dataset.name for dataset in missing)
        lines = [f"dataset {dataset.name}: {dataset.file} is missing" for dataset in missing]
        lines.append(f"get them with `o2obench data fetch {names}`, as a start without --offline does")
        lines.append(
            "or put the files there, or name their folder in O2OBENCH_DATA, or narrow with --datasets"
        )
    if from_file and any(is_d4rl(dataset.name) for dataset in missing):
        lines.append("without D4RL's files: --data o2o runs the same grid on sets collected by this project")
    raise MissingData(*lines, names=tuple(dataset.name for dataset in missing))


def _require_different_pretrainings(experiments: Sequence[Experiment], place: str) -> None:
    """Refuse two labels for what is one pretraining on all data sets: its options only look different."""
    runs: dict[str, set[str]] = {}
    for experiment in experiments:
        if experiment.parent:
            runs.setdefault(experiment.pretraining, set()).add(experiment.parent)
    labels: dict[frozenset[str], str] = {}
    for label, parents in runs.items():
        if labels.setdefault(frozenset(parents), label) != label:
            raise UserError(f"{place}: algorithms: {one_and_the_same(labels[frozenset(parents)], label)}")
