"""What a paper shows of all data sets together: a table, a figure or both, made from this plan's runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ...agent import EXPLORER_RETURN
from ...analysis.results import diagnoses
from ...datasets.reference_scores import task_and_kind
from ...planning.plan import Experiment
from ..cells import RANGES, Column, Row, Table, Value, over_seeds, seeds_shown, whole
from ..format import geometric, number
from ..paper_scores import Printed, distance_ratios, means_of_kind
from ..summary import MethodResult, Summary
from .style import STYLE, Panel, Target, finish, heading, logarithmic, prepared, save, share_legend

EXPLORER, OFFLINE, FINAL = "#0072b2", "#777777", "#d55e00"
SIGNED = "{:+.1f}"


@dataclass(frozen=True)
class PaperFigure:
    """A paper's table, the numbers behind it, its figure if any, and how to get what is missing."""

    table: Table
    seeds: pd.DataFrame
    """Seed by seed; written beside the page as CSV."""
    draw: Callable[[Target], list[Panel]] | None = None
    commands: tuple[str, ...] = ()
    printed: tuple[Printed, ...] = ()


def explorer(summary: Summary) -> PaperFigure:
    """DOOF's Fig. 3: the returns of the collecting policy, the offline one and the fine-tuned one."""
    seeds = _explored(summary)
    rows = []
    for line in summary.asked():
        own = seeds[(seeds.dataset == line.dataset) & (seeds.method == line.method)]
        if len(own):
            judged = own.dropna(subset="greedy_return")
            percent = 100.0 * (judged.greedy_return / judged.offline_return - 1.0)
            cells = [over_seeds(values) for values in (own.offline, judged.greedy)]
            cells += [over_seeds(values, SIGNED) for values in (judged.greedy - judged.offline, percent)]
            cells.append(over_seeds(own.explorer))
            cells += [
                over_seeds(own.final),
                whole(own.episodes.sum()),
                seeds_shown(len(own), line.asked),
            ]
            rows.append(Row(line.method, line.dataset, (Value(line.dataset), Value(line.method), *cells)))
    table = Table(
        "explorer",
        "What the explorer returns (DOOF Fig. 3)",
        "Scores. Offline: the policy at the online start; explorer: the one that will collect, when it has "
        "learnt; both by 50 episodes of the mean action, from the same start states (ratio 0: it is the "
        "offline policy). Change: seed by seed; in %: of the return, J(explorer) / J(offline) - 1, as in the "
        "paper; it means little near a return of 0. Collecting: all episodes that ended while it collected, "
        "with sampled actions; sampling alone lowers returns, too, which a run of ratio 0 measures. After: "
        "the fine-tuned policy at the end, which the paper does not draw here. " + RANGES,
        (
            *(Column(name, text=True) for name in ("data set", "method")),
            *(Column(name, "score") for name in ("offline", "explorer", "change")),
            *(Column("change %", "%"), Column("collecting", "score"), Column("after", "score")),
            *(Column("episodes"), Column("n")),
        ),
        tuple(rows),
    )
    return PaperFigure(table, seeds, partial(_draw_explorer, summary, seeds) if len(seeds) else None)


def _explored(summary: Summary) -> pd.DataFrame:
    """Return a row per seed: score and return of the explorer, the offline and the fine-tuned policy.

    ``explorer`` are the episodes in which it collects; ``greedy`` is its mean action, judged before (NaN in
    runs that did not judge it; without a stage of the explorer it is the offline policy).
    """
    played, evaluated = summary.episodes(), summary.evaluations()
    played = played[(played.stage == "collect") & played.method.isin(summary.asked_methods)]
    keys = ["method", "dataset", "seed"]
    means = {
        "episodes": ("score", "size"),
        "explorer": ("score", "mean"),
        "explorer_return": ("return", "mean"),
    }
    collected = played.groupby(keys, sort=False).agg(**means).reset_index()
    runs = evaluated[evaluated.phase == "online"].groupby(keys, sort=False)
    ends = runs.agg(
        offline=("score", "first"), offline_return=("mean_return", "first"), final=("score", "last")
    )
    found = collected.merge(ends.reset_index(), on=keys)
    logged = summary.logged({EXPLORER_RETURN})
    judged = {tuple(row[:3]): row[3] for row in logged[[*keys, "value"]].itertuples(index=False)}
    explored = evaluated[evaluated.stage.str.startswith("explorer")]
    learnt = set(explored[keys].itertuples(index=False, name=None))
    returns = []
    for run, offline in zip(
        found[keys].itertuples(index=False, name=None), found.offline_return, strict=True
    ):
        returns.append(judged.get(run, math.nan) if run in learnt else offline)
    found["greedy_return"] = returns
    scores = zip(found.dataset, returns, strict=True)
    found["greedy"] = [float(summary.plan.scores[name].score(value)) for name, value in scores]
    return found


def _draw_explorer(summary: Summary, seeds: pd.DataFrame, target: Target) -> list[Panel]:
    """Draw a panel for each data set: methods side by side, a small point for each seed."""
    plt = prepared()
    datasets = [name for name in summary.datasets if name in set(seeds.dataset)]
    methods = [name for name in summary.asked_methods if name in set(seeds.method)]
    common = _shared_words(methods)
    columns = min(3, len(datasets))
    height = -(-len(datasets) // columns)
    with plt.rc_context(STYLE):
        size = (max(8.0, 2.6 + 3.2 * columns), 0.7 + 2.7 * height)
        figure, axes = plt.subplots(height, columns, squeeze=False, figsize=size)
        for axis in axes.flat[len(datasets) :]:
            axis.set_axis_off()
        for axis, dataset in zip(axes.flat, datasets, strict=False):
            own = seeds[seeds.dataset == dataset]
            own = own.assign(explorer=own.greedy.fillna(own.explorer))
            once = own.drop_duplicates("seed").offline
            axis.axhspan(once.min(), once.max(), color=OFFLINE, alpha=0.15, lw=0)
            axis.axhline(once.mean(), color=OFFLINE, lw=1.4, label="offline policy (band: seeds)")
            for place, method in enumerate(methods):
                _points(axis, place - 0.1, own[own.method == method].explorer, EXPLORER, "o", "explorer")
                _points(axis, place + 0.1, own[own.method == method].final, FINAL, "D", "after fine-tuning")
            axis.set_xticks(range(len(methods)), [method.removeprefix(common).strip() for method in methods])
            axis.set_xlim(-0.6, len(methods) - 0.4)
            axis.set_title(dataset, loc="left", fontsize=9, color="#555555")
            axis.set_xlabel(common)
            axis.grid(True, axis="y")
        for axis in axes[:, 0]:
            axis.set_ylabel("normalised score")
        room = share_legend(figure, axes[0][:1])
        title = heading(summary.plan, "What the explorer returns", "large: mean over seeds, small: each seed")
        finish(figure, title, w_pad=1.0, h_pad=1.2, **room)
        return save(figure, target)


def _shared_words(methods: Sequence[str]) -> str:
    """Return the words with which all methods begin, their last word left out."""
    shared = []
    for words in zip(*(method.split()[:-1] for method in methods), strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return " ".join(shared)


def _points(axis: Any, x: float, values: pd.Series[float], colour: str, marker: str, label: str) -> None:
    if len(values):
        axis.plot([x] * len(values), values, marker, color=colour, alpha=0.35, markersize=3.5, mew=0)
        axis.plot([x], [values.mean()], marker, color=colour, markersize=7, label=label, mec="white", mew=0.8)


def distance(summary: Summary, name: str, rows: str, place: str, where: str) -> PaperFigure:
    """DOOF's Tables 2 and 6: the model's error before and after fine-tuning, as `diagnose` measured it."""
    evaluated, lacking = diagnoses(summary.plan, summary.results)
    evaluated = evaluated[(evaluated.source == rows) & evaluated.method.isin(summary.asked_methods)]
    lacking = [experiment for experiment in lacking if not experiment.automatic]
    keys = ["dataset", "method", "seed"]
    before, after = (evaluated[evaluated.model == model] for model in ("before", "after"))
    seeds = before.merge(after, on=keys, suffixes=("", "_after"))
    names = {"n": "evaluated", "mean": "before", "mean_after": "after", "max": "max_before"}
    seeds = seeds.rename(columns=names)[[*keys, *names.values(), "max_after"]]
    shown = []
    for line in summary.asked():
        own = seeds[(seeds.dataset == line.dataset) & (seeds.method == line.method)]
        if len(own):
            cells = [_digits(column) for column in (own.before, own.after)]
            cells += [_ratios(own.after / own.before), _ratios(own.max_after / own.max_before)]
            cells += map(Value, distance_ratios(summary.plan, place, line.dataset, line.method))
            cells.append(seeds_shown(len(own), line.asked))
            shown.append(Row(line.method, line.dataset, (Value(line.dataset), Value(line.method), *cells)))
    many = " to ".join(f"{count:,}" for count in sorted({*seeds.evaluated.agg(["min", "max"]).dropna()}))
    table = Table(
        name,
        f"The model's error {where} (DOOF {place})",
        "L2 distance between the elites' mean and the simulator's next observation, raw units, over "
        f"{many or 'the same'} rows for each seed before and after. Before: the offline model; after: this "
        "run's; both averaged over seeds. Ratios: seed by seed, geometric mean (least to greatest seed), of "
        "the means and of the maxima over rows, the latter a matter of single rows. The paper calls its "
        "distance total variation, with values in the thousands; so only ratios compare.",
        (
            *(Column(name, text=True) for name in ("data set", "method")),
            *(Column("before", "raw units"), Column("after", "raw units")),
            *(Column("after / before", "ratio", "lower"), Column("of maxima", "ratio", "lower")),
            *(Column("printed", "ratio"), Column("printed, of maxima", "ratio"), Column("n")),
        ),
        tuple(shown),
        tuple(f"{c.method} on {c.dataset}, seed {c.seed}: is not diagnosed" for c in lacking),
    )
    draw = partial(_draw_distance, summary, seeds, table.title) if len(seeds) else None
    return PaperFigure(table, seeds, draw, tuple(_to_diagnose(lacking)))


def _draw_distance(summary: Summary, seeds: pd.DataFrame, title: str, target: Target) -> list[Panel]:
    """Draw a panel for each data set: each seed's mean error before and after, joined, on a log axis."""
    plt = prepared()
    datasets = [name for name in summary.datasets if name in set(seeds.dataset)]
    methods = [name for name in summary.asked_methods if name in set(seeds.method)]
    common = _shared_words(methods)
    with plt.rc_context(STYLE):
        size = (max(9.6, 1.8 + 3.4 * len(datasets)), 3.2)
        figure, axes = plt.subplots(1, len(datasets), squeeze=False, figsize=size)
        for axis, dataset in zip(axes[0], datasets, strict=True):
            own = seeds[seeds.dataset == dataset]
            for place, method in enumerate(methods):
                of = own[own.method == method]
                ends = [place - 0.15, place + 0.15]
                for pair in of[["before", "after"]].to_numpy():
                    axis.plot(ends, pair, color=OFFLINE, lw=0.8, alpha=0.6)
                _points(axis, ends[0], of.before, OFFLINE, "o", "offline model")
                _points(axis, ends[1], of.after, EXPLORER, "o", "fine-tuned model")
            logarithmic(axis, 1, 2, 5)
            axis.set_xticks(range(len(methods)), [method.removeprefix(common).strip() for method in methods])
            axis.set_xlabel(common)
            axis.set_title(dataset, loc="left", fontsize=9, color="#555555")
            axis.grid(True, axis="y")
        axes[0][0].set_ylabel("L2 error (raw units)")
        room = share_legend(figure, axes[0][:1])
        title = heading(summary.plan, title, "large: mean over seeds, small: each seed")
        finish(figure, title, w_pad=1.0, **room)
        return save(figure, target)


def _digits(values: pd.Series[float]) -> Value:
    return Value(f"{values.mean():.3g}", values.mean())


def _ratios(values: pd.Series[float]) -> Value:
    return Value(number(values, "{:.2f}", geometric), geometric(values.tolist()), n=len(values))


def _to_diagnose(experiments: Sequence[Experiment]) -> list[str]:
    """Return the commands that make what is missing, one for each group of seeds."""
    groups: dict[str, dict[int, None]] = {}
    for experiment in experiments:
        groups.setdefault(str(Path(experiment.run).parent), {})[experiment.seed] = None
    commands = []
    for group, seeds in groups.items():
        chosen = ",".join(map(str, seeds))
        seed = f"{{{chosen}}}" if len(seeds) > 1 else chosen
        commands.append(f"o2obench diagnose results/{group}/seed-{seed}")
    return commands


def kinds(summary: Summary) -> PaperFigure:
    """DOOF's Table 7: means over tasks for each kind of data; a seed counts where it has all tasks."""
    of_kind: dict[str, dict[str, str]] = {}
    for dataset in summary.datasets:
        if parts := task_and_kind(dataset):
            of_kind.setdefault(parts[1], {})[dataset] = parts[0]
    rows, seeds, lacking, printed = [], list[tuple[Any, ...]](), list[str](), list[Printed]()
    for kind, task_of in of_kind.items():
        tasks = ", ".join(task_of.values())
        printed += means_of_kind(summary.plan, kind, list(task_of))
        for method in summary.asked_methods:
            own = [summary.by_name[method, name] for name in task_of if (method, name) in summary.by_name]
            if len(own) < len(task_of):
                continue
            common = sorted(set.intersection(*(set(line.seeds) for line in own)))
            ends = {seed: _mean_ends(own, seed) for seed in common}
            seeds += [(kind, tasks, method, seed, *ends[seed]) for seed in common]
            start, final = ([pair[i] for pair in ends.values()] for i in (0, 1))
            change = [b - a for a, b in ends.values()] if own[0].pretraining else []
            cells = (over_seeds(start), over_seeds(final), over_seeds(change, SIGNED))
            named = (Value(kind), Value(tasks), Value(method))
            rows.append(Row(method, "", (*named, *cells, seeds_shown(len(common), own[0].asked))))
            missing = [line.dataset for line in own if len(line.seeds) < line.asked]
            if missing:
                lacking.append(f"{method}, {kind}: not all seeds of {', '.join(missing)} are finished")
    table = Table(
        "kinds",
        "Means over tasks, by kind of data (DOOF Table 7)",
        "Scores, averaged over the tasks within a seed, then over seeds. A seed counts where every task of "
        "the kind is finished. Start: at the online start; final: the last evaluation; change: paired, "
        "seed by "
        "seed. " + RANGES,
        (
            *(Column(name, text=True) for name in ("kind", "tasks", "method")),
            *(Column(name, "score") for name in ("start", "final", "change")),
            Column("n"),
        ),
        tuple(rows),
        tuple(lacking),
    )
    columns = ["kind", "tasks", "method", "seed", "start", "final"]
    return PaperFigure(table, pd.DataFrame(seeds, columns=columns), printed=tuple(printed))


def _mean_ends(lines: Sequence[MethodResult], seed: int) -> tuple[float, float]:
    """Return the mean over tasks of a seed's scores at the online start and at the end."""
    places = [(line, line.seeds.index(seed)) for line in lines]
    start = sum(line.start[i] for line, i in places) / len(lines)
    return start, sum(line.final[i] for line, i in places) / len(lines)


PAPER_FIGURES: dict[str, Callable[[Summary], PaperFigure]] = {
    "explorer": explorer,
    "distance_uniform": partial(
        distance,
        name="distance_uniform",
        rows="uniform",
        place="Table 2",
        where="on uniform states and actions",
    ),
    "distance_rollout": partial(
        distance,
        name="distance_rollout",
        rows="rollout",
        place="Table 6",
        where="on the offline model's own rollouts",
    ),
    "kinds": kinds,
}


def paper_figures(summary: Summary) -> dict[str, PaperFigure]:
    """Return what the plan asks for, by name, in its order."""
    names = dict.fromkeys((*summary.plan.figures, *summary.plan.tables))
    return {name: PAPER_FIGURES[name](summary) for name in names if name in PAPER_FIGURES}
