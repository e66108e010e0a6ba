"""What a paper shows of all data sets together: a table, a figure or both, made from this plan's runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ..plan import Cell, Plan
from ..results import diagnoses, episodes
from ..scores import task_and_kind
from .figures import STYLE, Target, prepared, save
from .findings import Line
from .papers import Printed, distance_ratios, means_of_kind
from .words import geometric, number

EXPLORER, OFFLINE, FINAL = "#0072b2", "#777777", "#d55e00"
SIGNED, DIGITS = "{:+.1f}", "{:.3g}"


@dataclass(frozen=True)
class Source:
    """What exhibits are made from: a plan, its results folder, its evaluations and its lines."""

    plan: Plan
    results: Path
    table: pd.DataFrame
    lines: Sequence[Line]

    def asked(self, label: str, dataset: str) -> int:
        """Return how many seeds the plan asks for."""
        return sum((cell.label, cell.dataset) == (label, dataset) for cell in self.plan.cells)

    def n(self, found: int, label: str, dataset: str) -> str:
        """Return how many seeds are shown, of how many where some are missing."""
        asked = self.asked(label, dataset)
        return f"{found}" if found == asked else f"{found} of {asked}"

    def pairs(self) -> list[tuple[str, str]]:
        """Return every (data set, label) of the plan, data set by data set."""
        pairs = dict.fromkeys((cell.dataset, cell.label) for cell in self.plan.cells)
        datasets = list(dict.fromkeys(dataset for dataset, _ in pairs))
        return sorted(pairs, key=lambda pair: datasets.index(pair[0]))


@dataclass(frozen=True)
class Exhibit:
    """A table as text, what it rests on, and the figure that belongs to it, if any."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    seeds: pd.DataFrame
    """The numbers behind it, seed by seed; written beside the page as CSV."""
    draw: Callable[[Target], object] | None = None
    lacking: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    printed: tuple[Printed, ...] = ()
    texts: int = 2
    """How many columns are words; a word that stands in the row above, too, is left out."""

    def cells(self) -> list[tuple[str, ...]]:
        """Return the rows as they are shown."""
        above: Sequence[str] = ("",) * len(self.header)
        shown = []
        for row in self.rows:
            same = next((i for i in range(self.texts) if row[i] != above[i]), self.texts)
            shown.append(("",) * same + row[same:])
            above = row
        return shown


def explorer(source: Source) -> Exhibit:
    """DOOF's Fig. 3: what the policy that collects returns, against the offline policy and the tuned one."""
    seeds = _explored(source)
    rows = []
    for dataset, label in source.pairs():
        own = seeds[(seeds.dataset == dataset) & (seeds.label == label)]
        if len(own):
            change = own.explorer - own.offline
            percent = 100.0 * (own.explorer_return / own.offline_return - 1.0)
            scores = [f"{column.mean():.1f}" for column in (own.offline, own.explorer)]
            changes = [number(values, SIGNED) for values in (change, percent)]
            after, played = f"{own.final.mean():.1f}", f"{own.episodes.sum():,}"
            rows.append(
                (dataset, label, *scores, *changes, after, played, source.n(len(own), label, dataset))
            )
    return Exhibit(
        "What the explorer returns (DOOF Fig. 3)",
        "Scores, averaged over seeds (changes: least to greatest seed). Explorer: all episodes that ended "
        "while it collected, with sampled actions. Offline: the policy at the switch, 50 episodes of its "
        "mean action; sampling alone lowers returns, too, which a run of ratio 0 measures. Change in %: "
        "of the return, J(explorer) / J(offline) - 1, as in the paper; it means little near a return of 0. "
        "After: the tuned policy at the end, which the paper does not draw here.",
        ("data set", "method", "offline", "explorer", "change", "change %", "after", "episodes", "n"),
        rows,
        seeds,
        partial(_draw_explorer, source.plan, seeds) if len(seeds) else None,
    )


def _explored(source: Source) -> pd.DataFrame:
    """Return a row per seed: score and return of the explorer, of the offline policy and of the tuned one."""
    played = episodes(source.plan, source.results)
    played = played[played.stage == "collect"]
    keys = ["label", "dataset", "seed"]
    means = {
        "episodes": ("score", "size"),
        "explorer": ("score", "mean"),
        "explorer_return": ("return", "mean"),
    }
    found = played.groupby(keys, sort=False).agg(**means).reset_index()
    judged = source.table[source.table.phase == "online"].groupby(keys, sort=False)
    ends = judged.agg(
        offline=("score", "first"), offline_return=("mean_return", "first"), final=("score", "last")
    )
    return found.merge(ends.reset_index(), on=keys)


def _draw_explorer(plan: Plan, seeds: pd.DataFrame, target: Target) -> None:
    """Draw a panel for each data set: methods side by side, a small point for each seed."""
    plt = prepared()
    datasets = [
        name for name in dict.fromkeys(cell.dataset for cell in plan.cells) if name in set(seeds.dataset)
    ]
    labels = [name for name in dict.fromkeys(cell.label for cell in plan.cells) if name in set(seeds.label)]
    common = _shared_words(labels)
    columns = min(3, len(datasets))
    height = -(-len(datasets) // columns)
    with plt.rc_context(STYLE):
        size = (max(5.6, 3.2 * columns), 0.7 + 2.7 * height)
        figure, axes = plt.subplots(height, columns, squeeze=False, figsize=size)
        for axis in axes.flat[len(datasets) :]:
            axis.set_axis_off()
        for axis, dataset in zip(axes.flat, datasets, strict=False):
            own = seeds[seeds.dataset == dataset]
            once = own.drop_duplicates("seed").offline
            axis.axhspan(once.min(), once.max(), color=OFFLINE, alpha=0.15, lw=0)
            axis.axhline(once.mean(), color=OFFLINE, lw=1.4, label="offline policy (band: seeds)")
            for place, label in enumerate(labels):
                _points(axis, place - 0.1, own[own.label == label].explorer, EXPLORER, "o", "explorer")
                _points(axis, place + 0.1, own[own.label == label].final, FINAL, "D", "after tuning")
            axis.set_xticks(range(len(labels)), [label.removeprefix(common).strip() for label in labels])
            axis.set_xlim(-0.6, len(labels) - 0.4)
            axis.set_title(dataset, loc="left", fontsize=9, color="#555555")
            axis.set_xlabel(common)
            axis.grid(True, axis="y")
        for axis in axes[:, 0]:
            axis.set_ylabel("normalised score")
        handles, names = axes[0][0].get_legend_handles_labels()
        shown = dict(zip(names, handles, strict=True))
        figure.legend(shown.values(), shown, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        cut = ", reduced budget" if plan.reduced else ""
        title = f"What the explorer returns   (large: mean over seeds, small: each seed{cut})"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color="#222222")
        figure.tight_layout(w_pad=1.0, h_pad=1.2)
        save(figure, target, bbox_inches="tight")


def _shared_words(labels: Sequence[str]) -> str:
    """Return the words with which all labels begin, their last word left out."""
    shared = []
    for words in zip(*(label.split()[:-1] for label in labels), strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return " ".join(shared)


def _points(axis: Any, x: float, values: pd.Series[float], colour: str, marker: str, label: str) -> None:
    if len(values):
        axis.plot([x] * len(values), values, marker, color=colour, alpha=0.35, markersize=3.5, mew=0)
        axis.plot([x], [values.mean()], marker, color=colour, markersize=7, label=label, mec="white", mew=0.8)


def distance(source: Source, rows: str, place: str, where: str) -> Exhibit:
    """DOOF's Tables 2 and 6: the model's error before and after it was tuned, as `diagnose` measured it."""
    found, lacking = diagnoses(source.plan, source.results)
    found = found[found.rows == rows]
    keys = ["dataset", "label", "seed"]
    seeds = found[found.model == "before"].merge(
        found[found.model == "after"], on=keys, suffixes=("", "_after")
    )
    seeds = seeds.rename(
        columns={"n": "judged", "mean": "before", "mean_after": "after", "max": "max_before"}
    )
    seeds = seeds[[*keys, "judged", "before", "after", "max_before", "max_after"]]
    shown = []
    for dataset, label in source.pairs():
        own = seeds[(seeds.dataset == dataset) & (seeds.label == label)]
        if not len(own):
            continue
        change, at_most = own.after / own.before, own.max_after / own.max_before
        errors = [DIGITS.format(column.mean()) for column in (own.before, own.after)]
        ratios = [number(values, "{:.2f}", geometric) for values in (change, at_most)]
        printed = distance_ratios(source.plan, place, dataset, label)
        shown.append((dataset, label, *errors, *ratios, *printed, source.n(len(own), label, dataset)))
    judged = " to ".join(f"{count:,}" for count in sorted({*seeds.judged.agg(["min", "max"]).dropna()}))
    return Exhibit(
        f"The model's error {where} (DOOF {place})",
        "L2 distance between the elites' mean and the simulator's next observation, raw units, over "
        f"{judged or 'the same'} rows for each seed before and after. Before: the offline model; after: this "
        "run's; both averaged over seeds. Ratios: seed by seed, geometric mean (least to greatest seed), of "
        "the means and of the maxima over rows, the latter a matter of single rows. The paper calls its "
        "distance total variation, with values in the thousands; so only ratios compare.",
        (
            "data set",
            "method",
            "before",
            "after",
            "after / before",
            "of maxima",
            "printed",
            "of maxima",
            "n",
        ),
        shown,
        seeds,
        lacking=tuple(f"{c.label} on {c.dataset}, seed {c.seed}: is not diagnosed" for c in lacking),
        commands=tuple(_to_diagnose(lacking)),
    )


def _to_diagnose(cells: Sequence[Cell]) -> list[str]:
    """Return the commands that make what is missing, one for each group of seeds."""
    groups: dict[str, dict[int, None]] = {}
    for cell in cells:
        groups.setdefault(str(Path(cell.run).parent), {})[cell.seed] = None
    commands = []
    for group, seeds in groups.items():
        chosen = ",".join(map(str, seeds))
        seed = f"{{{chosen}}}" if len(seeds) > 1 else chosen
        commands.append(f"o2obench diagnose results/{group}/seed-{seed}")
    return commands


def kinds(source: Source) -> Exhibit:
    """DOOF's Table 7: means over tasks for each kind of data; a seed counts where it has all tasks."""
    named = {name: task_and_kind(name) for name in dict.fromkeys(line.dataset for line in source.lines)}
    of_kind: dict[str, list[str]] = {}
    for name, parts in named.items():
        if parts:
            of_kind.setdefault(parts[1], []).append(name)
    rows, seeds, lacking, printed = [], list[tuple[Any, ...]](), list[str](), list[Printed]()
    for kind, datasets in of_kind.items():
        tasks = ", ".join(parts[0] for name in datasets if (parts := named[name]))
        printed += means_of_kind(source.plan, kind, datasets)
        for label in dict.fromkeys(line.label for line in source.lines):
            own = [line for line in source.lines if line.label == label and line.dataset in datasets]
            if len(own) < len(datasets):
                continue
            whole = sorted(set.intersection(*(set(line.seeds) for line in own)))
            ends = {seed: _mean_ends(own, seed) for seed in whole}
            seeds += [(kind, tasks, label, seed, *ends[seed]) for seed in whole]
            start, final = ([pair[i] for pair in ends.values()] for i in (0, 1))
            change = [b - a for a, b in ends.values()]
            n = source.n(len(whole), label, datasets[0])
            rows.append((kind, tasks, label, number(start), number(final), number(change, SIGNED), n))
            missing = [line.dataset for line in own if len(line.seeds) < line.asked]
            if missing:
                lacking.append(f"{label}, {kind}: not all seeds of {', '.join(missing)} are finished")
    return Exhibit(
        "Means over tasks, by kind of data (DOOF Table 7)",
        "Scores, averaged over the tasks within a seed, then over seeds (least to greatest). A seed counts "
        "where every task of the kind is finished. Start: at the switch; final: the last evaluation; change: "
        "paired, seed by seed.",
        ("kind", "tasks", "method", "start", "final", "change", "n"),
        rows,
        pd.DataFrame(seeds, columns=["kind", "tasks", "method", "seed", "start", "final"]),
        lacking=tuple(lacking),
        printed=tuple(printed),
        texts=3,
    )


def _mean_ends(lines: Sequence[Line], seed: int) -> tuple[float, float]:
    """Return the mean over tasks of a seed's scores at the switch and at the end."""
    places = [(line, line.seeds.index(seed)) for line in lines]
    start = sum(line.start[i] for line, i in places) / len(lines)
    return start, sum(line.final[i] for line, i in places) / len(lines)


EXHIBITS: dict[str, Callable[[Source], Exhibit]] = {
    "explorer": explorer,
    "distance_uniform": partial(
        distance, rows="uniform", place="Table 2", where="on uniform states and actions"
    ),
    "distance_rollout": partial(
        distance, rows="rollout", place="Table 6", where="on the offline model's own rollouts"
    ),
    "kinds": kinds,
}


def exhibits(source: Source) -> dict[str, Exhibit]:
    """Return what the plan asks for, by name, in its order."""
    asked = dict.fromkeys((*source.plan.figures, *source.plan.tables))
    return {name: EXHIBITS[name](source) for name in asked if name in EXHIBITS}
