"""From a run's identity to its finished folder: lease, saved state, agent, loop, publication."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .. import registry
from ..agent import Budget, State, stack_seeds
from ..errors import BadInput, Diverged, Interrupted, LostLease
from ..runs import checkpoint
from ..runs.folder import Run
from ..runs.writer import Busy, Slot
from ..util import timers
from ..util.files import read_json
from . import provenance
from .build import agent_class, build
from .loop import Training
from .options import Options

SETTLED = ("run", "identity", "compute", "code")
"""What a resume never changes in run.json."""

__all__ = ["Busy", "Options", "Uneven", "execute"]


class Uneven(Exception):
    """The seeds of a pack stand at different clocks and have to be run one by one."""


def execute(runs: Sequence[Run], results: Path, options: Options) -> None:
    """Compute ``runs``, equal but for their seeds, to their end.

    Raises Interrupted when asked to stop, Busy when another process computes one of them, Uneven when
    a pack cannot go on together, BadInput when nothing was started, and what stopped a run otherwise
    (its folder then holds FAILED).
    """
    with ExitStack() as leases:
        slots = []
        for run in runs:
            slots.append(Slot(run, results))
            leases.callback(slots[-1].close)
        if all(slot.folder.done.exists() for slot in slots):
            return
        try:
            saved = _saved_state(slots)
            agent_class(runs[0])
            for slot in slots:
                slot.record = _settle_machine(slot, options, saved)
            for slot in slots:
                with slot.fence():
                    if slot.folder.done.exists():  # by an owner that was thought dead
                        if len(slots) == 1:
                            return
                        raise Uneven
                    slot.begin(saved["seeds"][slot.run.id] if saved else None)
            if saved and "final" in saved:  # killed between the last checkpoint and DONE
                for slot in slots:
                    final = {"agent": saved["seeds"][slot.run.id]["agent"], "final": True}
                    slot.finish(saved["number"] + 1, final)
                return
            timers.take()  # what a run before this one left
            training = Training(slots, build(runs, options.device), options)
            leases.callback(training.close)
            training.run(saved, [] if saved else [slot.handover() for slot in slots if slot.parent])
            training.finish()
        except (Interrupted, LostLease, BadInput, Busy, Uneven):
            raise
        except Exception as error:
            for slot in slots:
                slot.fail(error, isinstance(error, Diverged))
            for slot in slots:
                if slot.superseded():  # so that is what went wrong
                    raise LostLease(f"{slot.folder.path}: another process has taken this run over") from error
            raise
    lost = [f"{slot.run.id}: {slot.reason}" for slot in slots if not slot.alive]
    if lost:
        raise Diverged("; ".join(lost))


def _saved_state(slots: Sequence[Slot]) -> State | None:
    """Return the pack's newest common checkpoint, or None; what belongs to one seed stands by run id."""
    found = [checkpoint.load(slot.folder.checkpoint, usable=slot.holds) for slot in slots]
    numbers = {entry[0] for entry in found if entry}
    if len(numbers) == 2 and None not in found:  # killed between two seeds' checkpoints
        found = [checkpoint.load(slot.folder.checkpoint, min(numbers), slot.holds) for slot in slots]
    whole = [entry for entry in found if entry]
    if not whole:
        return None
    if len(whole) < len(slots) or len({number for number, _ in whole}) > 1:
        raise Uneven
    states = [state for _, state in whole]
    saved = {**states[0], "number": whole[0][0]}
    for key in ("agent", "pending"):
        saved[key] = stack_seeds([state.get(key, {}) for state in states])
    saved["seeds"] = {
        slot.run.id: {**state, "number": saved["number"]} for slot, state in zip(slots, states, strict=True)
    }
    return saved


def _settle_machine(slot: Slot, options: Options, saved: State | None) -> dict[str, Any]:
    """Make this process compute as the run's start did, and return what run.json has to say."""
    record = _record_of_start(slot, saved) if saved else None
    provenance.prepare(record["compute"]["threads"] if record else options.threads)
    if record is None:
        route = "high" if options.tf32 else slot.route_of_parent(options.device)
        compiled = not options.eager and _updates(slot.run) >= provenance.COMPILE_FROM
        now = provenance.compute(options.device, options.threads, route, compiled, options.evaluation)
        record = {"run": slot.run.to_json(), "identity": slot.run.identity, "compute": now}
        record |= {"code": provenance.code(), "drift": [], "damage": []}
        if saved:
            record["damage"] = ["run.json was damaged: its settings were chosen anew"]
    else:
        then = record["compute"]
        settings = [then[name] for name in ("threads", "matmul", "compiled", "evaluation")]
        now = provenance.compute(options.device, *settings)
        changes = provenance.drift(then, now)
        if changes and not options.allow_drift:
            raise BadInput(
                f"{slot.folder.path}: cannot be resumed exactly: {'; '.join(changes)}; "
                "restore it, or go on with --allow-drift, which marks the run"
            )
        record["drift"] = [*dict.fromkeys([*record["drift"], *changes])]
    aside = [f"checkpoint/{name} was set aside" for name in checkpoint.damaged(slot.folder.checkpoint)]
    known = "; ".join(record["damage"])
    then_used = "an older state was used" if saved else "began again from zero"
    new = [f"{what}: {then_used}" for what in [*aside, *slot.damage] if what not in known]
    record["damage"] = [*record["damage"], *new]
    provenance.apply(now, options.profile)
    return record


def _record_of_start(slot: Slot, saved: State) -> dict[str, Any] | None:
    """Return what run.json said when the checkpoint was written; the file itself may have been damaged since.

    Checkpoints of older versions hold no copy; then the file is all there is, and it may know of no damage.
    """
    shown = read_json(slot.folder.record, strict=True)
    record: dict[str, Any] | None = saved["seeds"][slot.run.id].get("record")
    if record is None:
        return {"damage": [], **shown} if isinstance(shown, dict) else None
    if not isinstance(shown, dict) or any(shown.get(key) != record[key] for key in SETTLED):
        record = {**record, "damage": [*record["damage"], "run.json was damaged: the checkpoint had a copy"]}
    return record


def _updates(run: Run) -> int:
    """Return how many updates a run plans; model training is not counted beforehand."""
    agent = registry.algorithm(run.spec["algorithm"])
    config = agent.Config.model_validate_json(json.dumps(run.spec["config"]))
    return sum(stage.updates for stage in agent.stages(config, Budget(**run.spec["budget"])))
