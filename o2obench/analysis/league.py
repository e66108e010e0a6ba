"""Does a results folder hold the league as its protocol says? Every rule, with the runs that break it.

The protocol is the suite ``league`` that comes with the package, as it expands today. What a folder's plan of
that name has besides (methods that somebody added to a copy of the suite) has to keep its budgets,
evaluations and data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..planning.expand import read_suite
from ..planning.load import find_suite
from ..planning.plan import Experiment, Plan, no_suite, read_plan
from ..runs import verify
from ..runs.folder import ResultsFolder
from ..runs.spec import Run

NAME = "league"


@dataclass(frozen=True)
class Rule:
    """A rule of the league, and what breaks it: runs, with the reason where the rule has several."""

    says: str
    broken_by: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A method on a data set, with the seeds that count.

    Kinds: ``verified`` (the package's own, computed as it stands), ``submitted`` (any other).
    """

    method: str
    dataset: str
    kind: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class LeagueCheck:
    """What a results folder holds of the league; ``diverged`` are runs whose numbers were not finite."""

    protocol: int
    rules: tuple[Rule, ...]
    rows: tuple[Row, ...]
    diverged: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether no rule is broken."""
        return not any(rule.broken_by for rule in self.rules)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {"holds": self.holds, **asdict(self)}


def check_league(results: ResultsFolder) -> LeagueCheck:
    """Hold a results folder against the league of this package.

    Raises:
        UserError: The folder has no readable plan of it, or the package's data are not the shipped ones.
    """
    files = results.plan_files()
    if results.plan_file(NAME) not in files:
        raise no_suite(results, NAME, [file.stem for file in files])
    return _Check(results, read_plan(results.plan_file(NAME)), read_suite(find_suite(NAME))).result()


class _Check:
    """The plan of a folder beside the league of the package, and the state of the runs of both."""

    def __init__(self, results: ResultsFolder, plan: Plan, league: Plan) -> None:
        self.results, self.plan, self.league = results, plan, league
        self.members = {(e.method, e.dataset): league.run(e.run).group for e in league.experiments}
        self.submitted = [e for e in plan.experiments if (e.method, e.dataset) not in self.members]
        runs = {run.id: run for run in (*league.runs, *plan.runs)}
        planned = {run.id for run in plan.runs}
        begun = [run for run in runs.values() if run.id in planned or results.run(run.id).record.exists()]
        self.faults = {run.id: fault for run in begun if (fault := _fault(results, run))}
        self.moved = [run.id for run in begun if verify.record_of(results.run(run.id)).get("mismatch")]
        self.diverged = [run.id for run in begun if results.run(run.id).state() == "diverged"]
        self.ended = {run.id for run in begun} - self.faults.keys() - set(self.moved)

    def result(self) -> LeagueCheck:
        """Return the rules and the rows."""
        assert self.league.protocol
        rules = {
            f"the protocol is this package's, {self.league.protocol}": self._other_protocol(),
            "members have the options and versions of this package": self._other_options(),
            "all runs have the league's budgets and evaluations": self._other_budgets(),
            "all data are those that come with the package": self._other_data(),
            "every run has ended, with its files as they were published": (
                f"{run}: {fault}" for run, fault in self.faults.items()
            ),
            "no run was resumed with --allow-mismatch": self.moved,
            f"every method has {len(self.league.seeds)} seeds, each with its whole chain": self._lacking(),
        }
        return LeagueCheck(
            self.league.protocol,
            tuple(Rule(says, tuple(dict.fromkeys(broken_by))) for says, broken_by in rules.items()),
            tuple(self._rows()),
            tuple(self.diverged),
        )

    def _other_protocol(self) -> Iterator[str]:
        if self.plan.protocol != self.league.protocol:
            yield f"the plan's is {self.plan.protocol or 'not said'}"

    def _other_options(self) -> Iterator[str]:
        for experiment in self.plan.experiments:
            group = self.members.get((experiment.method, experiment.dataset))
            if group and self.plan.run(experiment.run).group != group:
                yield experiment.run

    def _other_budgets(self) -> Iterator[str]:
        """Yield the runs with a budget, an evaluation schedule or evaluation episodes that no member has."""
        allowed: dict[str, set[Any]] = {}
        for run in self.league.runs:
            for name, value in _budget(run).items():
                allowed.setdefault(name, set()).add(value)
        for run in self.plan.runs:
            if any(value not in allowed[name] for name, value in _budget(run).items()):
                yield run.id

    def _other_data(self) -> Iterator[str]:
        specs = [run.spec for run in self.league.runs]
        shipped = {(spec.environment, spec.data) for spec in specs} | {
            (spec.environment, None) for spec in specs
        }
        for run in self.plan.runs:
            if (run.spec.environment, run.spec.data) not in shipped:
                yield run.id

    def _lacking(self) -> Iterator[str]:
        """Yield the runs that a seed needs to count, and the seeds of added methods that nobody planned."""
        needed = [run.id for run in self.league.runs]
        needed += [run for experiment in self.submitted for run in _chain(experiment)]
        yield from (run for run in needed if run not in self.ended)
        for method, dataset in dict.fromkeys((e.method, e.dataset) for e in self.submitted):
            planned = {e.seed for e in self.submitted if (e.method, e.dataset) == (method, dataset)}
            for seed in (seed for seed in self.league.seeds if seed not in planned):
                yield f"{method} on {dataset}: seed {seed} is not planned"

    def _rows(self) -> Iterator[Row]:
        """Yield a row for each method and data set; a seed counts where all members have it on that set."""
        incomplete = {(e.dataset, e.seed) for e in self.league.experiments if not self._has(e)}
        for kind, experiments in (("verified", self.league.experiments), ("submitted", self.submitted)):
            for method, dataset in dict.fromkeys((e.method, e.dataset) for e in experiments):
                own = [e for e in experiments if (e.method, e.dataset) == (method, dataset) and self._has(e)]
                counted = (e.seed for e in own if (dataset, e.seed) not in incomplete)
                yield Row(method, dataset, kind, tuple(seed for seed in counted if seed in self.league.seeds))

    def _has(self, experiment: Experiment) -> bool:
        return all(run in self.ended for run in _chain(experiment))


def _chain(experiment: Experiment) -> Sequence[str]:
    """Return the run of an experiment, after the one that it starts from."""
    return [*filter(None, (experiment.parent, experiment.run))]


def _budget(run: Run) -> dict[str, Any]:
    """Return budget and evaluation protocol of a run by name."""
    return {**vars(run.spec.budget), **vars(run.spec.protocol)}


def _fault(results: ResultsFolder, run: Run) -> str:
    """Return why a run does not count: not ended, corrupted, or another one than planned; empty: it does."""
    folder = results.run(run.id)
    state = folder.state()
    if state not in ("done", "diverged"):
        return state
    read = verify.published if state == "done" else verify.unfinished
    finding = next(read(folder, run.id), None)
    if finding:
        return f"{finding.path.name} {finding.what}"
    return "" if verify.record_of(folder).get("identity") == run.identity else "is another run than planned"
