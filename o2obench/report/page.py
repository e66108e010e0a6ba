"""One suite's report: index.html (self-contained), report.md, scores.csv, curves.csv and the figures."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from ..files import read_json, write_atomically
from ..plan import Plan
from ..results import Problem, is_whole, parts, table
from ..run import RunFolder, folder_name
from . import figures
from .exhibits import Exhibit, Source, exhibits
from .papers import beside
from .summary import DASH, Line, lines, mean, number


def write_page(plan: Plan, results: Path, out: Path) -> Path:
    """Write the report of a plan into ``out`` and return the page's path."""
    rows, problems = table(plan, results)
    found = lines(plan, rows, results)
    out.mkdir(parents=True, exist_ok=True)
    datasets = list(dict.fromkeys(line.dataset for line in found))
    shown = exhibits(Source(plan, results, rows, found))
    context = {
        "plan": plan,
        "headline": headline(plan, found, problems),
        "groups": [(name, _shown(found, name)) for name in datasets],
        "problems": problems,
        "exhibits": [(one, _drawn_exhibit(plan, name, one, out)) for name, one in shown.items()],
        "csvs": [f"{name}.csv" for name in shown],
        "drawn": {name: _drawn(plan, results, rows, name, out) for name in datasets},
        "printed": beside(plan, datasets),
        "references": [plan.scores[name] for name in datasets],
        "facts": facts(plan, results),
        "commands": [plan.command, "o2obench report results/"],
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("o2obench", "report"),
        autoescape=jinja2.select_autoescape(("html",)),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for name in ("index.html", "report.md"):
        write_atomically(out / name, environment.get_template(name).render(context))
    write_atomically(out / "scores.csv", scores_csv(plan, found))
    write_atomically(out / "curves.csv", _reduced_comment(plan) + rows.to_csv(index=False))
    for name, one in shown.items():
        write_atomically(out / f"{name}.csv", _reduced_comment(plan) + one.seeds.to_csv(index=False))
    return out / "index.html"


@dataclass(frozen=True)
class Drawn:
    """A figure on the page: what it says it is, its files' name, its SVG element, and how to read it."""

    title: str
    stem: str
    svg: str
    note: str = ""


TITLES = {
    "curves": "Learning curves",
    "diagnostics": "What the agents logged",
    "uncertainty": "How the penalty fades (MOORe Fig. 4)",
}
NOTES = {
    "uncertainty": "Right: the relative uncertainty error, |change of the mean uncertainty of model rows "
    "from one model training to the next| over the reward per step of the training episodes that ended in "
    "the same 1,000 steps; all seeds and trainings together, vertical line: median. The paper divides sums "
    "over an occupancy measure, these are means per step.",
}


def _drawn(plan: Plan, results: Path, rows: pd.DataFrame, dataset: str, out: Path) -> list[Drawn]:
    """Draw the figures of a data set that the plan asks for and that have something to show."""
    found = []
    for name in plan.figures if len(rows[rows.dataset == dataset]) else ():
        file = out / f"{name}-{folder_name(dataset)}"
        if name == "curves":
            there = figures.curves(plan, rows, dataset, file)
        elif name == "diagnostics":
            there = figures.diagnostics(plan, results, dataset, file)
        else:
            there = name == "uncertainty" and figures.fading(plan, results, dataset, file)
        if there:
            found.append(Drawn(TITLES[name], file.name, _inline(file), NOTES.get(name, "")))
    return found


def _drawn_exhibit(plan: Plan, name: str, exhibit: Exhibit, out: Path) -> Drawn | None:
    if name not in plan.figures or exhibit.draw is None:
        return None
    exhibit.draw(out / name)
    return Drawn(exhibit.title, name, _inline(out / name))


def headline(plan: Plan, found: list[Line], problems: list[Problem]) -> str:
    """Say in one sentence what came out and how much is missing. No ranking below 5 seeds."""
    if not any(line.seeds for line in found):
        return "No run of this suite is finished yet."
    tuned = [line for line in found if line.seeds and line.updates_per_step is not None]
    up = sum(mean(line.change) > 0 for line in tuned)
    parts = [f"{len(plan.cells) - len(problems)} of {len(plan.cells)} runs are shown"]
    if tuned:
        parts.append(
            f"the mean score rose between the first and the last evaluation in {up} of {len(tuned)} "
            f"combinations of learning algorithm and data set"
        )
    if len(plan.seeds) < 5:
        parts.append(f"{len(plan.seeds)} seeds are too few to rank algorithms")
    return "; ".join(parts) + "."


def facts(plan: Plan, results: Path) -> list[tuple[str, str]]:
    """Return what the runs were computed with, each fact once with the number of runs it holds for."""
    counts: dict[str, Counter[str]] = {}
    for run in plan.runs:
        if not is_whole(plan, run.id, results):
            continue
        record = read_json(RunFolder(results, run.id).record)
        compute, code = record["compute"], record["code"]
        versions = ", ".join(f"{name} {version}" for name, version in compute["versions"].items())
        commit = (
            f"{code['commit'][:10]}{' (changed)' if code['dirty'] else ''}" if code["commit"] else "release"
        )
        for key, value in {
            "hardware": f"{compute['processor']}, device {compute['device']}, {compute['threads']} thread(s)",
            "products": f"float32 matmul route {compute['matmul']}",
            "updates": "compiled" if compute["compiled"] else "not compiled",
            "versions": versions,
            "o2obench": f"{code['version']}, {commit}",
            "resumed on another machine": "; ".join(record["drift"]) or "no",
        }.items():
            counts.setdefault(key, Counter())[value] += 1
    shown = []
    for key, values in counts.items():
        many = len(values) > 1
        text = "; ".join(f"{value} ({n} runs)" if many else value for value, n in sorted(values.items()))
        shown.append((key, text))
    protocol = plan.runs[-1].spec["protocol"]
    evaluation = (
        f"every {protocol['steps']:,} steps {protocol['episodes']} episodes, at the switch and at the end of "
        f"each stage {protocol['final_episodes']}; mean action; start states shared by all algorithms"
    )
    seeds = ("seeds", ", ".join(map(str, plan.seeds)))
    return [("evaluation", evaluation), seeds, *shown, ("cost", _cost(plan, results))]


def _cost(plan: Plan, results: Path) -> str:
    """Return what the grid cost in process hours, and on what."""
    spent = parts(plan.runs, results)
    total = sum(spent.values())
    shares = [f"{part} {used / total:.0%}" for part, used in spent.items() if used >= 0.005 * total > 0]
    return f"{total / 3600:.2f} process hours, pretraining included ({', '.join(shares) or 'not noted'})"


def scores_csv(plan: Plan, found: list[Line]) -> str:
    """Return the table as CSV, one line per algorithm, data set and seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["dataset", "algorithm", "seed", "start", "final", "change", "updates", "env_steps", "reduced"]
    )
    cut = "; ".join(plan.reduced)
    for line in found:
        for seed, start, final in zip(line.seeds, line.start, line.final, strict=True):
            values = [f"{value:.4f}" for value in (start, final, final - start)]
            writer.writerow(
                [line.dataset, _cell(line.label), seed, *values, line.updates, line.env_steps, cut]
            )
    return text.getvalue()


def _shown(found: list[Line], dataset: str) -> list[dict[str, Any]]:
    return [
        {
            "label": line.label,
            "start": number(line.start),
            "final": number(line.final),
            "change": number(line.change, "{:+.1f}"),
            "rose": bool(line.seeds) and mean(line.change) > 0,
            "n": f"{len(line.seeds)}"
            if len(line.seeds) == line.asked
            else f"{len(line.seeds)} of {line.asked}",
            "whole": len(line.seeds) == line.asked,
            "updates_per_step": DASH if line.updates_per_step is None else line.updates_per_step,
            "n_init": DASH if line.n_init is None else f"{line.n_init:,}",
            "updates": f"{line.updates:,}",
            "hours": f"{line.hours:.2f}",
            "seeds": ", ".join(
                f"{seed}: {a:.1f} → {b:.1f}"
                for seed, a, b in zip(line.seeds, line.start, line.final, strict=True)
            ),
        }
        for line in found
        if line.dataset == dataset
    ]


def _inline(stem: Path) -> str:
    """Return an SVG file's element, without the XML prologue that HTML does not know."""
    text = stem.with_name(f"{stem.name}.svg").read_text()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def _reduced_comment(plan: Plan) -> str:
    return "".join(f"# reduced: {text}\n" for text in plan.reduced)


def _cell(text: str) -> str:
    """Keep a spreadsheet from reading a label as a formula."""
    return f"'{text}" if text[:1] in "=+-@" else text
