"""A run that collects a data set: what `data collect` does, under the lock and with the record of a run."""

from __future__ import annotations

from typing import Any

from ..datasets.registry import data_folder, find_dataset
from ..errors import UserError
from ..runs.spec import COLLECT, Run
from ..runs.writer import RunWriter
from . import provenance
from .collect import Recipe, collect
from .options import Options, Stop


def collect_data(writer: RunWriter, options: Options, stop: Stop) -> None:
    """Collect the data set of a run, unless it is here already; run.json says which file it is.

    An interrupted one goes on from its training, which is kept in the data folder. Raises UserError where a
    file that was collected otherwise has its name.
    """
    run = writer.run
    provenance.prepare(options.threads)
    writer.record = {
        "run": run.to_json(),
        "identity": run.identity,
        "compute": provenance.compute("cpu", options.threads),
        "code": provenance.code(),
        "mismatch": [],
        "corruption": [],
    }
    with writer.lock.publish_lock():
        if writer.folder.done.exists():
            return
        writer.begin(None)
    data = find_dataset(run.dataset)
    if not data.present:
        steps = run.spec.budget.online_steps

        def show(step: int) -> None:
            done = {"stage": COLLECT, "done": step, "total": steps, "unit": "steps"}
            writer.heartbeat({**done, "env_steps": step, "updates": 0})

        kind, recipe = _recipe(run, options)
        collect(run.spec.environment, kind, None, recipe, stop, show)
        data = find_dataset(run.dataset)
    if data.recipe != run.identity:
        raise UserError(
            f"{data.file}: was not collected by this recipe; name another data folder in O2OBENCH_DATA"
        )
    writer.record["data_sha256"] = data.sha256()
    writer.finish(1, {"agent": {}, "final": True})


def _recipe(run: Run, options: Options) -> tuple[str, Recipe]:
    """Return the kind of data and the recipe that a run's identity holds."""
    config: dict[str, Any] = dict(run.spec.config)
    recipe = Recipe(
        rows=config["rows"],
        steps=run.spec.budget.online_steps,
        seed=run.seed,
        work=data_folder() / "trainings",
        threads=options.threads,
        level=config["level"],
        if_missing=True,
        identity=run.identity,
    )
    return config["kind"], recipe
