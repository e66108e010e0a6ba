"""Does a results folder hold the league as its protocol says? Every rule, with the runs that break it.

The protocol is the suite ``league`` that comes with the package, as it expands today. What a folder's plan of
that name has besides (methods that somebody added to a copy of the suite) is submitted: it has to keep the
league's budgets, evaluations and data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import UserError
from ..planning.expand import read_suite
from ..planning.load import find_suite
from ..planning.plan import Experiment, Plan, no_suite, read_plan
from ..runs import verify
from ..runs.folder import ResultsFolder
from ..runs.spec import Run
from ..util.files import shown
from .league_reference import METHODS, Band, MemberValues, bands, measured

NAME = "league"


@dataclass(frozen=True)
class Rule:
    """A rule of the league, what to do where it is broken, and what breaks it: runs, some with the reason."""

    says: str
    remedy: str
    broken_by: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A method on a data set, with the seeds that count.

    Kinds: ``verified`` (the package's own, computed as it stands), ``submitted`` (any other).
    ``tuning_runs``: so many runs its options were chosen by, None where that is not declared.
    """

    method: str
    dataset: str
    kind: str
    seeds: tuple[int, ...]
    tuning_runs: int | None = None


@dataclass(frozen=True)
class LeagueCheck:
    """What a results folder holds of the league.

    ``diverged`` are runs whose numbers were not finite. ``bands`` hold members' means against the package's.
    """

    protocol: int
    rules: tuple[Rule, ...]
    rows: tuple[Row, ...]
    diverged: tuple[str, ...]
    bands: tuple[Band, ...] = ()

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
    league = read_suite(find_suite(NAME))
    check = _Check(results, _plan_in(results), league, league.runs)
    assert league.protocol
    found = (tuple(check.rules()), tuple(check.rows()), tuple(check.diverged))
    return LeagueCheck(league.protocol, *found, tuple(bands(league, results)))


def submission(results: ResultsFolder, to: ResultsFolder) -> Plan:
    """Return the plan of what a folder's league has beside the members, with the runs it starts from.

    Of title, report and command it is like the plan in ``to``, so that both can be united.

    Raises:
        UserError: One of the two has no league of this package's protocol, nothing is submitted, or what is
            breaks a rule.
    """
    league, plan, there = read_suite(find_suite(NAME)), _plan_in(results), _plan_in(to)
    if there.protocol != league.protocol:
        raise UserError(
            f"{to.plan_file(NAME)}: is of protocol {there.protocol}, this package's is {league.protocol}; "
            "merge the members' runs of that protocol first"
        )
    experiments = [e for e in _submitted(plan, league) if e.seed in league.seeds]
    if not experiments:
        raise UserError(
            f"{results.plan_file(NAME)}: has no method beside the members; add yours to a copy of "
            "league.yaml, with a label of its own"
        )
    needed = {run for experiment in experiments for run in _chain(experiment)}
    runs = tuple(run for run in plan.runs if run.id in needed)
    part = replace(plan, experiments=tuple(experiments), runs=runs)
    broken = [rule for rule in _Check(results, part, league, ()).rules() if rule.broken_by]
    if broken:
        raise UserError(*(_refusal(results, rule) for rule in broken))
    methods = {experiment.method for experiment in experiments}
    return replace(
        there,
        seeds=league.seeds,
        runs=runs,
        experiments=part.experiments,
        stages={run.group: plan.stages[run.group] for run in runs},
        schedules={run.group: plan.schedules[run.group] for run in runs},
        scores={e.dataset: plan.scores[e.dataset] for e in experiments},
        verified=(),
        tuning_runs={name: runs for name, runs in plan.tuning_runs.items() if name in methods},
    )


def references(results: ResultsFolder) -> list[MemberValues]:
    """Return the values of the reference members in a results folder, of the seeds that count.

    Raises:
        UserError: None counts, or the folder has no readable plan of the league.
    """
    league = read_suite(find_suite(NAME))
    counted = {
        (row.method, row.dataset, seed)
        for row in _Check(results, _plan_in(results), league, league.runs).rows()
        for seed in row.seeds
    }
    whole = tuple(e for e in league.experiments if (e.method, e.dataset, e.seed) in counted)
    values = measured(replace(league, experiments=whole), results)
    if not values:
        raise UserError(
            f"{shown(results)}: no seed of {', '.join(METHODS)} counts; see `o2obench league check`"
        )
    return values


def _plan_in(results: ResultsFolder) -> Plan:
    files = results.plan_files()
    if results.plan_file(NAME) not in files:
        raise no_suite(results, NAME, [file.stem for file in files])
    return read_plan(results.plan_file(NAME))


def _refusal(results: ResultsFolder, rule: Rule) -> str:
    first, *others = rule.broken_by
    more = f" and {len(others):,} more" if others else ""
    return f"{shown(results)}: a rule is broken: {rule.says}: {shown(first)}{more}; {rule.remedy}"


def _submitted(plan: Plan, league: Plan) -> list[Experiment]:
    """Return what bears no member's label, and the controls of pretrainings on data that have none there."""
    members, known = {method for method, _ in league.groups}, league.groups
    return [
        e
        for e in plan.experiments
        if e.method not in members or (e.automatic and (e.method, e.dataset) not in known)
    ]


class _Check:
    """A plan of a folder beside the league of the package; the state of its runs and of those required."""

    def __init__(self, results: ResultsFolder, plan: Plan, league: Plan, required: Sequence[Run]) -> None:
        self.results, self.plan, self.league, self.required = results, plan, league, required
        self.submitted = _submitted(plan, league)
        runs = {run.id: run for run in (*required, *plan.runs)}
        planned = {run.id for run in plan.runs}
        begun = [run for run in runs.values() if run.id in planned or results.run(run.id).record.exists()]
        self.faults = {run.id: fault for run in begun if (fault := _fault(results, run))}
        records = {run.id: verify.record_of(results.run(run.id)) for run in begun}
        self.moved = [run for run, record in records.items() if record.get("mismatch")]
        self.changed = [run for run, record in records.items() if _is_dirty(record)]
        self.diverged = [run.id for run in begun if results.run(run.id).state() == "diverged"]
        self.ended = records.keys() - self.faults.keys() - {*self.moved, *self.changed}

    def rules(self) -> Iterator[Rule]:
        """Yield every rule, with what breaks it."""
        faults = [f"{run}: {fault}" for run, fault in self.faults.items()]
        seeds = len(self.league.seeds)
        start = "start the suite again"
        rules: Sequence[tuple[str, str, Iterable[str]]] = (
            (f"the protocol is this package's, {self.league.protocol}", start, self._other_protocol()),
            (
                "members and their pretrainings have the options and versions of this package",
                f"give what was changed a label of its own, or {start}",
                self._other_options(),
            ),
            (
                "all runs have the league's budgets and evaluations",
                "keep offline and online of league.yaml",
                self._other_budgets(),
            ),
            (
                "all data are those that come with the package",
                "keep datasets and sha256 of league.yaml",
                self._other_data(),
            ),
            (
                "every run has ended, with its files as they were published",
                f"remove those that were changed, and {start}",
                faults,
            ),
            ("no run was resumed with --allow-mismatch", f"remove it, and {start}", self.moved),
            (
                "no run was computed from changed code",
                f"remove it, and {start} from a release or a checkout without changes",
                self.changed,
            ),
            (
                "every submitted method declares the runs that its options were chosen by",
                f"write `tuning_runs: N` beside its label, 0 where there were none, and {start}",
                self._undeclared(),
            ),
            (
                f"every method has {seeds} seeds, each with its whole chain",
                "compute what is missing: --seeds",
                self._lacking(),
            ),
        )
        for says, remedy, broken_by in rules:
            yield Rule(says, remedy, tuple(dict.fromkeys(broken_by)))

    def _other_protocol(self) -> Iterator[str]:
        if self.plan.protocol != self.league.protocol:
            yield f"the plan's is {self.plan.protocol or 'not said'}"

    def _other_options(self) -> Iterator[str]:
        """Yield the runs that bear a member's label, or are a pretraining of a member's, and are others."""
        members = self.league.groups
        pretrainings = {
            (e.pretraining, e.dataset): self.league.run(e.parent).group
            for e in self.league.experiments
            if e.parent
        }
        submitted = {*self.submitted}
        for e in self.plan.experiments:
            if e not in submitted:
                if self.plan.run(e.run).group != members.get((e.method, e.dataset)):
                    yield e.run
            elif e.parent:
                group = self.plan.run(e.parent).group
                if pretrainings.get((e.pretraining, e.dataset), group) != group:
                    yield e.parent

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

    def _undeclared(self) -> Iterator[str]:
        for experiment in self.submitted:
            if not experiment.automatic and experiment.method not in self.plan.tuning_runs:
                yield experiment.method

    def _lacking(self) -> Iterator[str]:
        """Yield the runs that a seed needs to count, and the seeds of added methods that nobody planned."""
        needed = [run.id for run in self.required]
        needed += [run for experiment in self.submitted for run in _chain(experiment)]
        yield from (run for run in needed if run not in self.ended)
        for method, dataset in dict.fromkeys((e.method, e.dataset) for e in self.submitted):
            planned = {e.seed for e in self.submitted if (e.method, e.dataset) == (method, dataset)}
            for seed in (seed for seed in self.league.seeds if seed not in planned):
                yield f"{method} on {dataset}: seed {seed} is not planned"

    def rows(self) -> Iterator[Row]:
        """Yield a row for each method and data set; a seed counts where all members have it on that set."""
        incomplete = {(e.dataset, e.seed) for e in self.league.experiments if not self._has(e)}
        for kind, experiments in (("verified", self.league.experiments), ("submitted", self.submitted)):
            for method, dataset in dict.fromkeys((e.method, e.dataset) for e in experiments):
                own = [e for e in experiments if (e.method, e.dataset) == (method, dataset) and self._has(e)]
                counted = (e.seed for e in own if (dataset, e.seed) not in incomplete)
                seeds = tuple(seed for seed in counted if seed in self.league.seeds)
                yield Row(method, dataset, kind, seeds, self.plan.tuning_runs.get(method))

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
    if state not in verify.ENDED:
        return state
    finding = next(verify.ended(folder, run.id), None)
    if finding:
        return f"{finding.path.name} {finding.what}"
    return "" if verify.record_of(folder).get("identity") == run.identity else "is another run than planned"


def _is_dirty(record: dict[str, Any]) -> bool:
    """Tell whether a run was computed from a checkout whose code was changed."""
    code = record.get("code")
    return bool(isinstance(code, dict) and code.get("dirty"))
