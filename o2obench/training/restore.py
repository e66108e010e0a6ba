"""What a run starts from: its newest checkpoint, its pretrained state, the settings of its first start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..agent import KEPT, State, stack_seeds
from ..datasets.registry import find_dataset
from ..errors import RunFailed, UserError
from ..runs import checkpoint
from ..runs.folder import RunFolder
from ..runs.jsonl import read_jsonl
from ..runs.spec import Run
from ..runs.writer import RunWriter
from ..util.files import read_json
from . import provenance
from .build import agent_class, config_of
from .options import Options

FIXED = ("run", "identity", "compute", "code")
"""What a resume never changes in run.json."""


class CheckpointMismatch(Exception):
    """The seeds of a seed batch stand at different clocks and have to be run one by one."""


def saved_state(writers: Sequence[RunWriter]) -> State | None:
    """Return the newest common checkpoint, or None; what belongs to one seed stands by run id."""
    checkpoints = [checkpoint.load(writer.folder.checkpoint, usable=writer.agrees_with) for writer in writers]
    numbers = {entry[0] for entry in checkpoints if entry}
    if len(numbers) == 2 and None not in checkpoints:  # killed between two seeds' checkpoints
        least = min(numbers)
        checkpoints = [
            checkpoint.load(writer.folder.checkpoint, least, writer.agrees_with) for writer in writers
        ]
    intact = [entry for entry in checkpoints if entry]
    if not intact:
        return None
    if len(intact) < len(writers) or len({number for number, _ in intact}) > 1:
        raise CheckpointMismatch
    states = [state for _, state in intact]
    saved = {**states[0], "number": intact[0][0]}
    for key in ("agent", "pending"):
        saved[key] = stack_seeds([state.get(key, {}) for state in states])
    saved["seeds"] = {
        writer.run.id: {**state, "number": saved["number"]}
        for writer, state in zip(writers, states, strict=True)
    }
    return saved


def fix_compute_settings(
    writer: RunWriter, parent: RunFolder | None, options: Options, saved: State | None
) -> dict[str, Any]:
    """Make this process compute as the run's start did, and return what run.json has to hold."""
    record = _record_of_start(writer, saved["seeds"][writer.run.id]) if saved else None
    provenance.prepare(record["compute"]["threads"] if record else options.threads)
    if record is None:
        precision = "high" if options.tf32 else _precision_of(parent, options.device)
        compiled = not options.eager and _planned_updates(writer.run) >= provenance.COMPILE_FROM
        now = provenance.compute(options.device, options.threads, precision, compiled, options.evaluation)
        record = {"run": writer.run.to_json(), "identity": writer.run.identity, "compute": now}
        record |= {"code": provenance.code(), "mismatch": [], "corruption": [], **_data_of(writer.run)}
    else:
        _require_same_data(writer, record)
        then = record["compute"]
        settings = [then[name] for name in ("threads", "matmul_precision", "compiled", "evaluation")]
        now = provenance.compute(options.device, *settings)
        changes = provenance.mismatch(then, now)
        if changes and not options.allow_mismatch:
            raise UserError(
                f"{writer.folder.path}: cannot be resumed exactly: {'; '.join(changes)}; "
                "restore it, or go on with --allow-mismatch, which marks the run"
            )
        record["mismatch"] = [*dict.fromkeys([*record["mismatch"], *changes])]
    aside = [f"checkpoint/{name} was set aside" for name in checkpoint.corrupted(writer.folder.checkpoint)]
    recorded = "; ".join(record["corruption"])
    effect = "an older state was used" if saved else "began again from zero"
    new = [f"{fault}: {effect}" for fault in [*aside, *writer.corruption] if fault not in recorded]
    record["corruption"] = [*record["corruption"], *new]
    provenance.apply(now, options.profile)
    return record


def _data_of(run: Run) -> dict[str, str]:
    """Return what run.json says of data that the run's identity names by their recipe only."""
    if run.spec.data is None or not run.spec.data.recipe:
        return {}
    return {"data_sha256": find_dataset(run.dataset).sha256()}


def _require_same_data(writer: RunWriter, record: dict[str, Any]) -> None:
    """Refuse to go on where the file of a recipe is another one than at the start."""
    then, now = record.get("data_sha256", ""), _data_of(writer.run).get("data_sha256", "")
    if then != now:
        raise UserError(
            f"{writer.folder.path}: began on data with SHA-256 {then[:12]}, the file is now {now[:12]}, "
            "collected by the same recipe; put the former one back, or remove the run's folder"
        )


def _record_of_start(writer: RunWriter, saved: State) -> dict[str, Any]:
    """Return run.json as the checkpoint copied it; the file itself may have been corrupted since."""
    record: dict[str, Any] = saved["record"]
    shown = read_json(writer.folder.record, strict=True)
    if not isinstance(shown, dict) or any(shown.get(key) != record[key] for key in FIXED):
        fault = "run.json was corrupted: the checkpoint had a copy"
        record = {**record, "corruption": [*record["corruption"], fault]}
    return record


def _planned_updates(run: Run) -> int:
    """Return how many updates a run plans; model training is not counted beforehand."""
    agent = agent_class(run.spec)
    return sum(stage.updates for stage in agent.stages(config_of(run.spec, agent), run.spec.budget))


def _precision_of(parent: RunFolder | None, device: str) -> str | None:
    """Return the parent's matmul precision on the same device: a measurement must not split a family."""
    theirs = read_json(parent.record, strict=True) if parent else None
    if not theirs or theirs["compute"]["device"] != device:
        return None
    return str(theirs["compute"]["matmul_precision"])


def pretrained_state(parent: RunFolder) -> State:
    """Return the state that a pretraining run left behind; raise RunFailed when there is none."""
    if not parent.done.exists():
        raise RunFailed(f"the pretraining run {parent.id} is not finished")
    corruption = parent.corruption()
    last = parent.final_checkpoint()
    state = checkpoint.read(last) if last and not corruption else None
    if state is None or not state.get("final"):
        raise RunFailed(
            f"the pretraining run {parent.path}: {corruption or 'its state is missing or corrupted'}; "
            "remove that folder, and the suite computes it again"
        )
    agent: State = state["agent"]
    return agent


def require_same_start(writer: RunWriter, parent: RunFolder) -> None:
    """Assert that a run starts exactly where its pretraining run ended.

    Row 0 must hold the returns of the parent's last row, where both were computed on equal machines and the
    agent does not say that it took another policy over.
    """
    mine, theirs = writer.record, read_json(parent.record, strict=True)
    same_policy = mine.get("taken_over", {}).get("actor", KEPT).startswith(KEPT)
    if not (writer.alive and theirs and same_policy):
        return
    ours, parents = ({"engine": 1, **record["compute"], "compiled": None} for record in (mine, theirs))
    if ours != parents:  # (policies act uncompiled)
        return
    *_, end = read_jsonl(parent.evaluations)
    if next(read_jsonl(writer.folder.evaluations))["returns"] != end["returns"]:
        raise RunFailed(
            "row 0 differs from the last row of the pretraining run: the policy was not taken over"
        )
