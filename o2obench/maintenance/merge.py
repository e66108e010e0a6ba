"""Finished runs of one results folder, taken over into another.

`o2obench merge` takes all of them, `league add` a submission, `suite --reuse` those that a plan lacks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import LeaseSettingsMismatch, Timeout

from ..errors import UserError
from ..planning.plan import Plan, require_plans
from ..runs import inventory, verify
from ..runs.checkpoint import PARTS
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.inventory import KINDS, REMOVED
from ..runs.lock import lock_on
from ..runs.spec import Run
from ..util.files import is_file, is_folder, make_below, sha256, shown, sync_folder, temporary_name
from .merge_plans import unite

COPIED = (*(name for name in KINDS if name not in ("FAILED", "progress.json")),)
"""What is copied of a finished run beside the state that it hands over; of one that diverged FAILED, too."""


@dataclass
class Merging:
    """What happened to the runs and plans of the folder that was merged from."""

    copied: list[str] = field(default_factory=list)
    identical: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield what a terminal shows: a line for each problem and plan, then the counts."""
        yield from self.problems
        yield from self.plans
        yield (
            f"{len(self.copied)} runs copied, {len(self.identical)} were there, "
            f"{len(self.unfinished)} are not finished and were left, {len(self.problems)} problems"
        )


def merge(into: ResultsFolder, source: ResultsFolder) -> Merging:
    """Copy what ``into`` lacks from ``source``, which is never changed; both are checked first.

    A kill at any instant leaves no half run and no half plan; a repetition completes the merge.
    """
    _check_places(into, source)
    return _merge(into, source, inventory.take(source).runs, require_plans(source))


def add(into: ResultsFolder, source: ResultsFolder, plan: Plan) -> Merging:
    """Copy the runs of a plan's methods that ``into`` lacks, and unite the plan with the one there.

    Runs of other methods there are neither touched nor compared, also where these methods start from them.

    Raises:
        UserError: A run cannot be copied as it is; then the plan there stays what it was.
    """
    _check_places(into, source)
    own = {experiment.run for experiment in plan.experiments}
    others = {
        run.id for there in require_plans(into) if there.suite == plan.suite for run in there.runs
    } - own
    kept = {run_id for run_id in others if into.run(run_id).state() in verify.ENDED}
    return _merge(into, source, [run.id for run in plan.runs if run.id not in kept], [plan], all_or_none=True)


def _merge(
    into: ResultsFolder,
    source: ResultsFolder,
    runs: Iterable[str],
    theirs: Sequence[Plan],
    all_or_none: bool = False,
) -> Merging:
    plans = _united_plans(into, source, theirs)
    merging, files = Merging(), _files_of_recipes(into)

    def require_none_left() -> None:
        if all_or_none and (merging.problems or merging.unfinished):
            raise UserError(*merging.problems, *(f"{run}: has not ended" for run in merging.unfinished))

    to_copy = [
        run_id
        for run_id in runs
        if _has_same_data(source, run_id, files, merging) and _is_wanted(into, source, run_id, merging)
    ]
    require_none_left()
    into.path.mkdir(parents=True, exist_ok=True)
    with inventory.alone(into):
        for run_id in to_copy:
            _copy_run(into, source, run_id, merging)
        require_none_left()
        _copy_policies(into, source)
        for plan, outcome in plans:
            plan.write(into)
            merging.plans.append(f"{shown(into.plan_file(plan.suite))}: {outcome}")
    return merging


def reuse(plan: Plan, into: ResultsFolder, source: ResultsFolder) -> Merging:
    """Copy the runs of a plan that ``into`` lacks and that are finished in ``source``, which is not changed.

    They are the same computations by their identity, and each is verified by the hashes of its DONE.
    """
    if not source.path.is_dir():
        raise UserError(f"{shown(source)}: is no folder; name a results folder to take finished runs from")
    _check_places(into, source)
    merging, files = Merging(), _files_of_recipes(into)
    lacking = [run.id for run in plan.runs if not into.run(run.id).done.exists()]
    for run_id in (run_id for run_id in lacking if is_file(source.run(run_id).done)):
        if _has_same_data(source, run_id, files, merging) and _is_wanted(into, source, run_id, merging):
            into.path.mkdir(parents=True, exist_ok=True)
            with inventory.alone(into):
                _copy_run(into, source, run_id, merging)
    return merging


def _copy_policies(into: ResultsFolder, source: ResultsFolder) -> None:
    """Copy users' own policies; they are named by their content."""
    files = source.policies.glob("*.npz") if is_folder(source.policies) else ()
    for file in (file for file in files if is_file(file)):
        if not (target := into.policies / file.name).exists():
            make_below(into.path, into.policies)
            _copy_file(file, target)


def _check_places(into: ResultsFolder, source: ResultsFolder) -> None:
    """Raise UserError unless ``into`` is a results folder, empty or new, and apart from ``source``."""
    if into.path.exists() and (not into.path.is_dir() or inventory.look(into).foreign):
        inventory.take(into)
    if os.path.lexists(into.plans) and not is_folder(into.plans):
        raise UserError(f"{shown(into.plans)}: is no folder; move it away")
    ours, theirs = into.path.resolve(), source.path.resolve()
    if ours == theirs or ours in theirs.parents or theirs in ours.parents:
        raise UserError(f"{shown(source)}: is, holds or lies in {shown(into)}; name two folders apart")


def _united_plans(
    into: ResultsFolder, source: ResultsFolder, theirs: Iterable[Plan]
) -> list[tuple[Plan, str]]:
    """Return the plans to write and what each is; raise UserError listing those that cannot be united.

    The plan of an older protocol than the other folder's is united under the name that it keeps.
    """
    here, theirs = require_plans(into), list(theirs)
    newest: dict[str, int] = {}
    for plan in (*here, *theirs):
        newest[plan.suite] = max(newest.get(plan.suite, 0), plan.protocol or 0)

    def named(plan: Plan) -> Plan:
        return plan.kept() if 0 < (plan.protocol or 0) < newest[plan.suite] else plan

    ours = {plan.suite: plan for plan in map(named, here)}
    plans, problems = list[tuple[Plan, str]](), list[str]()
    for plan in sorted(map(named, theirs), key=lambda plan: not plan.is_kept):
        if plan.suite not in ours:
            plans.append((plan, "copied"))
            continue
        try:
            united = unite(ours[plan.suite], plan)
        except ValueError as error:
            file = source.plan_file(plan.suite)
            problems.append(f"{shown(file)}: {shown(error)}; merge into another folder, or rename the suite")
            continue
        if united != ours[plan.suite]:
            plans.append((united, f"united, {len(united.seeds)} seeds, {len(united.runs)} runs"))
    if problems:
        raise UserError(*problems)
    return plans


def _files_of_recipes(results: ResultsFolder) -> dict[str, str]:
    """Return the SHA-256 of the data that came of each recipe, as the runs of a folder say."""
    told = (_recipe_and_file(results.run(run_id)) for run_id in inventory.look(results).runs)
    return {recipe: sha256 for recipe, sha256 in told if sha256}


def _recipe_and_file(folder: RunFolder) -> tuple[str, str]:
    """Return the recipe of a run's data and the hash of the file that it was; both empty: no recipe."""
    record = verify.record_of(folder)
    try:
        run, sha256 = Run.from_json(record["run"]), str(record["data_sha256"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return "", ""
    return run.identity if run.collects else run.spec.data.recipe if run.spec.data else "", sha256


def _has_same_data(source: ResultsFolder, run_id: str, files: dict[str, str], merging: Merging) -> bool:
    """Tell whether a run's data are those of the other runs with the same recipe; note a conflict."""
    recipe, sha256 = _recipe_and_file(source.run(run_id))
    if not recipe or files.setdefault(recipe, sha256) == sha256:
        return True
    merging.problems.append(
        f"{shown(source.run(run_id).path)}: conflict: its data have SHA-256 {sha256[:12]}, those of the "
        f"other runs with this recipe {files[recipe][:12]}; keep the runs of one file (not copied)"
    )
    return False


def _is_wanted(into: ResultsFolder, source: ResultsFolder, run_id: str, merging: Merging) -> bool:
    """Tell whether a run is to be copied; note why not, where it is not."""
    theirs, ours = source.run(run_id), into.run(run_id)
    if theirs.state() not in verify.ENDED:
        merging.unfinished.append(run_id)
        return False
    faults = list(verify.ended(theirs, run_id))
    if faults:
        merging.problems += [f"{fault} (not copied)" for fault in faults]
        return False
    if ours.state() not in verify.ENDED:
        return True
    faults = list(verify.ended(ours, run_id))
    if faults:
        merging.problems += [f"{fault} (the other folder holds a whole one)" for fault in faults]
    elif different := [
        *(name for name in ("evaluations", "episodes") if _bytes(ours, name) != _bytes(theirs, name)),
        *(["outcomes"] if ours.state() != theirs.state() else []),
    ]:
        merging.problems.append(
            f"{shown(theirs.path)}: conflict: its {' and '.join(different)} differ from those of the same "
            f"run in {shown(into)}; keep one of the two by removing the other"
        )
    else:
        merging.identical.append(run_id)
    return False


def _bytes(folder: RunFolder, name: str) -> str:
    file: Path = getattr(folder, name)
    return sha256(file) if file.exists() else ""


def _copy_run(into: ResultsFolder, source: ResultsFolder, run_id: str, merging: Merging) -> None:
    """Copy a finished run under a temporary name, verify the copy, and give it its name."""
    theirs, target = source.run(run_id), into.run(run_id)
    try:
        make_below(into.path, target.path.parent)
    except UserError as error:
        merging.problems.append(shown(error))
        return
    copy = RunFolder(temporary_name(target.path), run_id)
    try:
        for file in _files(theirs):
            _copy_file(file, copy.path / file.relative_to(theirs.path))
        faults = list(verify.ended(copy, run_id))
        if faults:
            merging.problems += [f"{fault} (the copy; the run changed meanwhile)" for fault in faults]
            return
        sync_folder(copy.path)
        problem = _give_name(copy.path, target)
    finally:
        shutil.rmtree(copy.path, ignore_errors=True)
    if problem:
        merging.problems.append(problem)
    else:
        merging.copied.append(run_id)


def _files(folder: RunFolder) -> list[Path]:
    """Return the files of a finished run that are copied; DONE comes last."""
    last = folder.final_checkpoint()
    state = [last / name for name in PARTS] if last and last.exists() else []
    files = [*(folder.path / name for name in COPIED), *state, folder.checkpoint / REMOVED]
    files += [] if folder.done.exists() else [folder.failed]
    return sorted((file for file in files if is_file(file)), key=lambda file: file == folder.done)


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target, follow_symlinks=False)
    with open(target, "rb") as file:
        os.fsync(file.fileno())
    sync_folder(target.parent)


def _give_name(copy: Path, target: RunFolder) -> str:
    """Rename a whole copy to its run's folder; return why not, where that cannot be.

    What an unfinished attempt left there is set aside, under the run's lock, and removed.
    """
    if not os.path.lexists(target.path):
        copy.rename(target.path)
        sync_folder(target.path.parent)
        return ""
    if not is_folder(target.path):
        return f"{shown(target.path)}: is no folder, the run cannot be copied; move it away"
    if any(entry.kind == "foreign" for entry in inventory.entries(target.path)):
        return f"{shown(target.path)}: an unfinished run with foreign files; move them away and merge again"
    lock = lock_on(target)
    try:
        lock.acquire()
    except (Timeout, LeaseSettingsMismatch):
        return f"{shown(target.path)}: is being computed, the finished one was not copied; merge again later"
    try:
        if target.done.exists():
            return f"{shown(target.path)}: was finished meanwhile; merge again to compare the two"
        aside = temporary_name(target.path)
        target.path.rename(aside)
        copy.rename(target.path)
        sync_folder(target.path.parent)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        return f"{shown(target.path)}: {error.strerror}; merge again"
    finally:
        lock.release()
    return ""
