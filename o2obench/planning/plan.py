"""A plan: every run of a suite and the experiments that show them, one JSON file that later commands read."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from ..agent import Stage
from ..datasets import policy_files
from ..datasets.reference_scores import WALKS, Reference
from ..errors import UserError
from ..runs.folder import ResultsFolder
from ..runs.spec import Run, RunSpec, digest
from ..util.files import make_below, read_json, shown, write_atomically
from .report_items import USUAL_FIGURES, USUAL_TABLES, known_figure, known_table

SUITE_NAME = re.compile(r"[\w(][\w .,()=+@-]*")
"""Suites name files, jobs and headings: words, blanks and a few marks, none of which acts anywhere."""

OPTIONAL = ("protocol", "verified", "tuning_runs")
"""What a plan's file holds only where it says something."""
ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\[bfnrtu]")


@dataclass(frozen=True)
class Experiment:
    """One entry of the grid as the report shows it: a method, a data set, a seed, and the run behind it.

    ``pretraining`` names what it starts from, ``parent`` is that run; both empty where it starts from
    nothing.
    ``automatic``: nobody asked for it, it is the control of a pretraining.
    """

    method: str
    algorithm: str
    dataset: str
    seed: int
    run: str
    parent: str | None
    pretraining: str = ""
    automatic: bool = False


@dataclass(frozen=True)
class Plan:
    """An expanded suite: its runs, parents first, and the experiments that show them.

    ``reduced`` holds a line for each count that was cut: ``key = value (full: value)``. ``stages`` and
    ``schedules`` are kept per run group, as the algorithms gave them; ``scores`` per data set.
    ``reporting_steps`` are environment steps at which scores are compared, with ``reference`` the method that
    others are compared with. ``figures`` and ``tables`` are what the report shows, in this order. ``data``
    holds the mean and the best raw return of each data set's episodes, where they could be read.
    ``policy_files`` are users' own policies by SHA-256; writing the plan copies them. ``protocol`` is the
    version of a standing protocol, None where the suite is none; ``verified`` are its (method, data set)
    that are the package's own, computed as they stand there. ``tuning_runs`` says by method how many runs its
    options were chosen by, where that is declared.
    """

    suite: str
    title: str
    command: str
    seeds: tuple[int, ...]
    reduced: tuple[str, ...]
    reporting_steps: tuple[int, ...]
    runs: tuple[Run, ...]
    experiments: tuple[Experiment, ...]
    stages: Mapping[str, Sequence[Stage]] = field(default_factory=dict)
    schedules: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    scores: Mapping[str, Reference] = field(default_factory=dict)
    figures: tuple[str, ...] = tuple(USUAL_FIGURES)
    tables: tuple[str, ...] = USUAL_TABLES
    reference: str = ""
    data: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    policy_files: Mapping[str, policy_files.PolicyFile] = field(default_factory=dict)
    protocol: int | None = None
    verified: tuple[tuple[str, str], ...] = ()
    tuning_runs: Mapping[str, int] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """The suite's name, with the version of its protocol where it has one."""
        return f"{self.suite}, protocol {self.protocol}" if self.protocol and not self.is_kept else self.suite

    @property
    def is_kept(self) -> bool:
        """Whether it is that of an older protocol, which nobody computes any more."""
        return self.suite.endswith(f"-protocol-{self.protocol}")

    def kept(self) -> Plan:
        """Return this plan under the name that it keeps where a newer protocol takes its own."""
        title = f"{self.title or self.suite} (an older protocol)"
        return replace(self, suite=f"{self.suite}-protocol-{self.protocol}", title=title)

    @property
    def groups(self) -> dict[tuple[str, str], str]:
        """What each method computes on a data set: the hash that all its seeds share."""
        return {(e.method, e.dataset): self.run(e.run).group for e in self.experiments}

    def data_scores(self, dataset: str) -> tuple[float, float] | None:
        """Return the scores of a data set's mean and best episode; None where the plan does not know them."""
        if dataset not in self.data:
            return None
        mean, best = (float(self.scores[dataset].score(value)) for value in self.data[dataset])
        return mean, best

    def run(self, run_id: str) -> Run:
        """Return the run of this id; raise KeyError when the plan has none."""
        return self._by_id[run_id]

    @functools.cached_property
    def _by_id(self) -> dict[str, Run]:
        return {run.id: run for run in self.runs}

    def needs(self, run: Run) -> tuple[str, ...]:
        """Return the ids of the runs that have to be done before one can start.

        They are its pretraining, the collection of its data, and of a collection the one before it that goes
        on with the same training.
        """
        before = self._collections.get(run.spec.data.recipe) if run.spec.data else None
        return tuple(filter(None, (run.parent, before, self._collected_before.get(run.id))))

    @functools.cached_property
    def _collections(self) -> dict[str, str]:
        return {run.identity: run.id for run in self.runs if run.collects}

    @functools.cached_property
    def _collected_before(self) -> dict[str, str]:
        """The collection that comes before one, where both are cut from one training."""
        latest, before = dict[Any, str](), dict[str, str]()
        for run in (run for run in self.runs if run.collects and run.spec.config["kind"] not in WALKS):
            training = (run.spec.environment, run.seed)
            if training in latest:
                before[run.id] = latest[training]
            latest[training] = run.id
        return before

    def method(self, run: Run) -> str:
        """Return the first method under which a run is shown; of a pretraining run that it is one."""
        if run.id in self._methods:
            return self._methods[run.id]
        if run.collects:
            return "collect the data"
        return f"{self._pretrainings.get(run.id, run.algorithm)} (pretraining)"

    @functools.cached_property
    def _methods(self) -> dict[str, str]:
        return {experiment.run: experiment.method for experiment in reversed(self.experiments)}

    @functools.cached_property
    def _pretrainings(self) -> dict[str, str]:
        return {
            experiment.parent: experiment.pretraining
            for experiment in reversed(self.experiments)
            if experiment.parent
        }

    def is_online(self, run: Run) -> bool:
        """Tell whether a run starts from a pretraining or interacts with the environment."""
        return bool(run.parent) or any(stage.env_steps for stage in self.stages[run.group])

    def work(self, run: Run) -> tuple[int, int]:
        """Return the planned (policy updates, environment steps) of a run."""
        stages = self.stages[run.group]
        return sum(s.updates for s in stages), sum(s.env_steps for s in stages)

    def copy_policies(self, results: ResultsFolder) -> None:
        """Copy users' own policies into a results folder, so that a resume needs no original."""
        if self.policy_files:
            make_below(results.path, results.policies)
        for policy in self.policy_files.values():
            policy_files.keep_copy(policy, results.policy_file(policy.sha256))

    def write(self, results: ResultsFolder) -> Path:
        """Write the plan, and the policies it starts from, into a results folder; return the plan's file.

        The plan of an older protocol that stands there is kept under a name of its own. Raises UserError
        where that of a newer one does.
        """
        file = results.plan_file(self.suite)
        self._keep_older(results)
        self.copy_policies(results)
        make_below(results.path, results.plans)
        specs = {run.group: run.spec.to_json() for run in self.runs}
        value = {
            "suite": self.suite,
            "title": self.title,
            "command": self.command,
            "seeds": self.seeds,
            "reduced": self.reduced,
            "reporting_steps": self.reporting_steps,
            "figures": self.figures,
            "tables": self.tables,
            "reference": self.reference,
            "specs": specs,
            "runs": [{**run.to_json(), "spec": run.group} for run in self.runs],
            "experiments": [vars(experiment) for experiment in self.experiments],
            "stages": {group: [vars(stage) for stage in stages] for group, stages in self.stages.items()},
            "schedules": self.schedules,
            "scores": {name: vars(scores) for name, scores in self.scores.items()},
            "data": self.data,
            **{name: getattr(self, name) for name in OPTIONAL if getattr(self, name)},
        }
        write_atomically(file, json.dumps({"sha256": digest(value), **value}, indent=1) + "\n")
        return file

    def _keep_older(self, results: ResultsFolder) -> None:
        for there in readable_plans([results.plan_file(self.suite)])[0] if self.protocol else ():
            if (there.protocol or 0) > (self.protocol or 0):
                raise UserError(
                    f"{results.plan_file(self.suite)}: is of protocol {there.protocol}, this one is of "
                    f"{self.protocol}; name another results folder"
                )
            if there.protocol and there.protocol != self.protocol:
                there._keep(results)

    def _keep(self, results: ResultsFolder) -> None:
        """Write this plan under the name that it keeps, unless all of it stands there already."""
        kept = self.kept()
        file = results.plan_file(kept.suite)
        if not os.path.lexists(file):
            kept.write(results)
        elif not set(kept.experiments) <= {e for plan in readable_plans([file])[0] for e in plan.experiments}:
            raise UserError(f"{file}: lacks methods of protocol {self.protocol}; move it away")


class _Parts(BaseModel):
    """What of a plan is read by type."""

    model_config = ConfigDict(strict=True, extra="forbid")

    seeds: tuple[int, ...]
    reporting_steps: tuple[NonNegativeInt, ...]
    experiments: tuple[Experiment, ...]
    stages: dict[str, tuple[Stage, ...]]
    schedules: dict[str, dict[str, int]]
    scores: dict[str, Reference]
    data: dict[str, tuple[float, float]]
    protocol: PositiveInt | None = None
    verified: tuple[tuple[str, str], ...] = ()
    tuning_runs: dict[str, NonNegativeInt] = {}


def read_plan(file: Path) -> Plan:
    """Read a plan back; raise UserError when the file is corrupted or was edited."""
    value = read_json(file)
    try:
        if value.pop("sha256") != digest(value):
            raise ValueError("its contents were changed")
        run_ids = {run["id"] for run in value["runs"]}
        used = {experiment[of] for experiment in value["experiments"] for of in ("run", "parent")}
        if not used <= run_ids | {None}:
            raise ValueError("an experiment's run is not in it")
        if not all(isinstance(value[name], str) for name in ("title", "command", "reference")):
            raise ValueError("its title or its command is no text")
        if not SUITE_NAME.fullmatch(value["suite"]):
            raise ValueError(f"{value['suite']!r} is not the name of a suite")
        if _acts(value):
            raise ValueError("it holds characters that act on a terminal")
        specs = {group: RunSpec.from_json(spec) for group, spec in value.pop("specs").items()}
        typed = {name: value[name] for name in _Parts.model_fields if name in value or name not in OPTIONAL}
        parts = _Parts.model_validate_json(json.dumps(typed))
        if not {spec.hash for spec in specs.values()} <= parts.stages.keys() & parts.schedules.keys():
            raise ValueError("the stages of a run are not in it")
        if not {experiment.dataset for experiment in parts.experiments} <= parts.scores.keys():
            raise ValueError("the scores of a data set are not in it")
        return Plan(
            suite=value["suite"],
            title=value["title"],
            command=value["command"],
            seeds=parts.seeds,
            reduced=tuple(value["reduced"]),
            reporting_steps=parts.reporting_steps,
            runs=tuple(Run.from_json(run, specs[run["spec"]]) for run in value["runs"]),
            experiments=parts.experiments,
            stages=parts.stages,
            schedules=parts.schedules,
            scores=parts.scores,
            figures=tuple(map(known_figure, value["figures"])),
            tables=tuple(map(known_table, value["tables"])),
            reference=value["reference"],
            data=parts.data,
            protocol=parts.protocol,
            verified=parts.verified,
            tuning_runs=parts.tuning_runs,
        )
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        told = isinstance(error, ValueError) and not isinstance(error, ValidationError)
        why = str(error) if told else "corrupted or of another version"
        raise UserError(f"{file}: not a plan ({why}); start the suite again to rewrite it") from None


def _acts(value: Any) -> bool:
    """Tell whether a text anywhere in a JSON value holds a character that acts on a terminal."""
    written = json.dumps(value, ensure_ascii=False)  # with what JSON escapes: control characters
    return not written.isprintable() or ("\\" in written and bool(ESCAPED.search(written)))


def readable_plans(files: Iterable[Path]) -> tuple[list[Plan], list[str]]:
    """Return the plans that can be read and bear their file's name, and what is wrong with the others."""
    plans, problems = list[Plan](), list[str]()
    for file in files:
        try:
            plan = read_plan(file)
            if plan.suite != file.stem:
                raise UserError(f"{file}: is the plan of {plan.suite}; give it that name again")
            plans.append(plan)
        except UserError as error:
            problems += error.problems
    return plans, problems


def require_plans(results: ResultsFolder) -> list[Plan]:
    """Return all plans; raise UserError naming those that cannot be read or were renamed."""
    plans, problems = readable_plans(results.plan_files())
    if problems:
        raise UserError(*problems)
    return plans


def read_plans(results: ResultsFolder, suite: str = "") -> list[Plan]:
    """Return the plans of a results folder; raise UserError when there is none (of this name).

    A corrupted plan is told on standard error and left out where others can be read.
    """
    files = results.plan_files()
    chosen = [file for file in files if not suite or file.stem == suite]
    if not chosen:
        raise no_suite(results, suite, [file.stem for file in files])
    plans, problems = readable_plans(chosen)
    if not plans:
        raise UserError(*problems)
    for problem in problems:
        print(shown(problem), file=sys.stderr)
    return plans


def no_suite(results: ResultsFolder, suite: str, suites: Sequence[str]) -> UserError:
    """Return the error that no suite (of this name) was run in a results folder."""
    subject = f"no suite {suite}" if suite else "no suite"
    return UserError(
        f"{results}: {subject} was run here (found: {', '.join(suites) or 'none'}); "
        "start one with `o2obench suite`"
    )
