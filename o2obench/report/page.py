"""One suite's report: index.html (self-contained), report.md, tables and figures as files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from ..analysis.external import ExternalResult
from ..analysis.inference import FEW
from ..analysis.results import parts
from ..planning.plan import Plan
from ..runs.folder import ResultsFolder
from ..runs.owner import LOCK_SECONDS
from ..runs.spec import film_name, folder_name, schedule_text
from ..util.files import sweep, write_atomically
from . import cache, league, paper_scores, tables, warnings, writers
from .answer import lead, lead_of_all
from .cells import Table, Value
from .chart import charts
from .headline import headline, unfinished
from .metrics import LOSS
from .options import ReportOptions
from .plots import registry
from .plots.paper_figures import PaperFigure, paper_figures
from .plots.style import Drawing, Panel, Target
from .summary import Summary, summarise
from .sweeps import tuning
from .warnings import Surroundings

DIAGNOSTICS = ("seeds", "diagnostics", "uncertainty")
"""The figures that stand last: they explain a result, and are none."""
LARGEST_FILM = 2_000_000


@dataclass(frozen=True)
class Drawn:
    """A figure on the page: its title, its files' name, its SVG element, how to read it, its values."""

    title: str
    stem: str
    svg: str
    note: str = ""
    panels: list[Panel] = field(default_factory=list)
    alt: str = ""
    """What it shows, in words, for those who do not see it."""
    why: str = ""
    """Why it is not drawn; empty where it is."""


@dataclass(frozen=True)
class Group:
    """All that is shown of one data set: its answer, its other tables and figures, films as base64 GIFs."""

    dataset: str
    anchor: str
    lead: Table
    curves: Drawn | None
    tables: list[Table]
    figures: list[Drawn]
    diagnostics: list[Drawn]
    videos: Mapping[str, str]


def write_page(
    plan: Plan,
    results: ResultsFolder,
    out: Path,
    around: Surroundings,
    options: ReportOptions,
    external: Sequence[ExternalResult] = (),
) -> dict[str, Any]:
    """Write the report of a plan into ``out``; return what a list of suites says of it, as JSON values."""
    summary, formats = summarise(plan, results, options, external), options.formats
    shown = paper_figures(summary)
    out.mkdir(parents=True, exist_ok=True)
    sweep(out, LOCK_SECONDS)
    overall = tables.shown(summary, [*plan.tables, *(["pairs"] if options.pairs else [])])
    overall += [table for table in [tuning(summary)] if table.rows]
    matrix = [] if options.pairs else tables.shown(summary, ["pairs"])
    kinds = tuple(kind for kind in ("svg", "pdf", "png") if kind in formats)
    pen = _Pen(summary, out, (*kinds, "svg") if "html" in formats and "svg" not in kinds else kinds)
    drawn = [name for name in plan.figures if name in registry.OVERALL]
    if drawn and "tuning" not in drawn:  # every suite that sweeps options has it
        drawn.append("tuning")
    overview = [pen.draw(name, registry.OVERALL[name]) for name in drawn]
    groups = [
        _group(summary, dataset, pen)
        for dataset in options.watch(summary.datasets, f"{plan.suite}: data sets")
    ]
    every = [*overall, *(paper_figure.table for paper_figure in shown.values() if paper_figure.table.rows)]
    every += [table for group in groups for table in (group.lead, *group.tables) if table.rows]
    answer = groups[0].lead if len(groups) == 1 else lead_of_all(summary)
    every += [answer] if len(groups) > 1 and answer.rows else []
    records = warnings.records(plan, results)
    files = ["report.md"] if "md" in formats else []
    if "csv" in formats:
        files += _write_csv(summary, every, shown, out)
    if "tex" in formats:
        for name, same in writers.by_name(every).items():
            write_atomically(out / f"{name}.tex", writers.latex(same, f"{plan.suite}-{name}", plan.reduced))
            files.append(f"{name}.tex")
    context = {
        "plan": plan,
        "headline": headline(summary),
        "refresh": options.refresh,
        "unfinished": unfinished(summary),
        "answer": answer,
        "charts": charts(summary) if "html" in formats else {},
        "methods": summary.methods,
        "overall": [table for table in overall if table.name != "final" or len(summary.datasets) > 1],
        "matrix": matrix if summary.comparison.n >= FEW else [],
        "overview": [figure for figure in overview if figure],
        "groups": groups,
        "diagnostics": [(group.dataset, figure) for group in groups for figure in group.diagnostics],
        "problems": summary.lacking,
        "account": summary.account,
        "notes": [
            *warnings.notes(plan, results, around),
            *warnings.uncounted(plan, records),
            *warnings.mixtures(plan, records),
            *warnings.taken_over(plan, records),
            *warnings.restarted(plan, records),
        ],
        "paper_figures": [
            (paper_figure, pen.paper_figure(name, paper_figure)) for name, paper_figure in shown.items()
        ],
        "printed": paper_scores.beside(plan, summary.datasets),
        "references": [plan.scores[name] for name in summary.datasets],
        "facts": [*facts(plan, records), ("cost", _cost(plan, results))],
        "commands": [plan.command, options.command(plan.suite)],
        "files": files,
    }
    if "html" in formats:
        write_atomically(out / "index.html", _html(context))
    if "md" in formats:
        write_atomically(out / "report.md", _environment().get_template("report.md").render(context))
    return _in_short(summary, answer)


def _in_short(summary: Summary, answer: Table) -> dict[str, Any]:
    """Return what stands in the first row of the answer, by the names of ``suites.html``."""
    cells = {}
    if answer.rows:
        texts = (cell.text for cell in answer.rows[0].cells)
        cells = dict(zip((column.name for column in answer.columns), texts, strict=True))
    return {
        "title": summary.plan.title or summary.plan.suite,
        "protocol": summary.plan.protocol,
        "headline": headline(summary),
        "datasets": list(summary.datasets),
        "planned": summary.account["planned"],
        "shown": summary.account["shown"],
        "leader": cells.get("method", ""),
        "lead": cells.get(summary.lead, ""),
        "loss": cells.get(LOSS, ""),
        "columns": [column.name for column in answer.columns],
        "rows": [[_in_words(cell) for cell in row.cells] for row in answer.rows],
    }


def _in_words(cell: Value) -> str:
    """Return a cell as a terminal shows it: a star at the best, a sign at the others."""
    return f"{cell.text} {'*' if cell.mark == 'best' else cell.sign}".rstrip()


def write_list(out: Path) -> Path:
    """Write ``index.html`` over all suites' pages in a folder, from the notes beside them.

    Standing protocols come first, the newest at the top with its answer.
    """
    suites = [
        {"folder": folder.name, "protocol": None, **about}
        for folder in sorted(out.iterdir())
        if (folder / "index.html").is_file() and (about := cache.about(folder))
    ]
    suites.sort(key=lambda suite: -(suite["protocol"] or 0))
    style = resources.files("o2obench.report").joinpath("page.css").read_text(encoding="utf-8")
    template = _environment().get_template("suites.html")
    text = template.render(suites=suites, style=markupsafe.Markup(style))
    write_atomically(out / "index.html", text)
    return out / "index.html"


def _group(summary: Summary, dataset: str, pen: _Pen) -> Group:
    every = [league.more_seeds(summary, dataset)]
    every += [tables.EACH[name](summary, dataset) for name in summary.plan.tables if name in tables.EACH]
    every.append(tables.beside(summary, dataset))
    drawn = {
        name: figure
        for name in summary.plan.figures
        if (plot := registry.of_dataset(name)) and (figure := pen.draw(name, plot, dataset))
    }
    return Group(
        dataset,
        pen.names[dataset],
        lead(summary, dataset),
        drawn.get("curves"),
        [table for table in every if table.rows],
        [figure for name, figure in drawn.items() if name not in (*DIAGNOSTICS, "curves")],
        [figure for name, figure in drawn.items() if name in DIAGNOSTICS],
        videos(summary, dataset, pen.out),
    )


def videos(summary: Summary, dataset: str, out: Path) -> dict[str, str]:
    """Return the films of `o2obench render` by method: the first seed's, in base64.

    They are looked for by their usual names in the report's folder and in the working folder.
    """
    found = dict[str, str]()
    for result in summary.on(dataset):
        for run in result.runs:
            for film in (out / film_name(run.id), Path(film_name(run.id))):
                if result.method not in found and film.is_file() and film.stat().st_size <= LARGEST_FILM:
                    found[result.method] = base64.b64encode(film.read_bytes()).decode()
    return found


@dataclass(frozen=True)
class _Pen:
    """Draws figures into the report's folder and reads their SVG back for the page."""

    summary: Summary
    out: Path
    kinds: tuple[str, ...]

    @cached_property
    def names(self) -> dict[str, str]:
        """The data sets' names in files and anchors: no two are alike, also where only signs differ."""
        cleaned = [folder_name(dataset) for dataset in self.summary.datasets]
        counts = (
            f"-{cleaned[:i].count(name) + 1}" if name in cleaned[:i] else "" for i, name in enumerate(cleaned)
        )
        numbered = (name + number for name, number in zip(cleaned, counts, strict=True))
        return dict(zip(self.summary.datasets, numbered, strict=True))

    def draw(self, name: str, plot: registry.Plot, dataset: str = "") -> Drawn | None:
        """Draw a figure; None where it has nothing to show, or nobody wants to see it."""
        if not self.kinds:
            return None
        stem = f"{name}-{self.names[dataset]}" if dataset else f"overall-{name}"
        title = registry.title_of(name)
        drawing = plot(self.summary, dataset, Target(self.out / stem, self.kinds))
        if isinstance(drawing, str):
            return Drawn(title, stem, "", why=drawing)
        return self._inline(title, stem, drawing, self._in_words(title, dataset)) if drawing else None

    def _in_words(self, title: str, dataset: str) -> str:
        on = f" on {dataset}" if dataset else ""
        return f"{title}{on}. {self.summary.in_words(dataset)}".strip()

    def paper_figure(self, name: str, paper_figure: PaperFigure) -> Drawn | None:
        """Draw the figure of a paper where there is one."""
        if paper_figure.draw is None or not self.kinds:
            return None
        panels = paper_figure.draw(Target(self.out / name, self.kinds))
        return self._inline(paper_figure.table.title, name, Drawing(panels), paper_figure.table.title)

    def _inline(self, title: str, stem: str, drawing: Drawing, alt: str) -> Drawn:
        """Return a figure with its SVG element, without the XML prologue that HTML does not know."""
        svg = ""
        if "svg" in self.kinds:
            text = (self.out / f"{stem}.svg").read_text(encoding="utf-8")
            svg = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
            svg = re.sub(r'id="(series-\d+)"', r'class="\1"', svg)  # several elements, one name
        return Drawn(title, stem, svg, drawing.note, drawing.panels, alt)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("o2obench", "report"),
        autoescape=jinja2.select_autoescape(("html",)),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["markdown"] = writers.markdown
    environment.filters["md"] = writers.in_markdown
    return environment


def _html(context: dict[str, Any]) -> str:
    """Return the page; its policy allows the one script by its hash, and no request at all."""
    folder = resources.files("o2obench.report")
    script, style = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    figures = [figure for group in context["groups"] for figure in group.figures]
    figures += [figure for _, figure in context["diagnostics"]]
    figures += [*context["overview"], *(figure for _, figure in context["paper_figures"] if figure)]
    panels = {figure.stem: figure.panels for figure in figures if figure.panels}
    inline = {"script": markupsafe.Markup(script), "style": markupsafe.Markup(style)}
    islands = {"island": _island(panels), "curves": _island(context["charts"])}
    return _environment().get_template("index.html").render(context, digest=digest, **islands, **inline)


def _island(data: Any) -> markupsafe.Markup:
    """Return JSON for a script element: nothing in a name can end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return markupsafe.Markup(text)


def _write_csv(summary: Summary, every: list[Table], shown: dict[str, PaperFigure], out: Path) -> list[str]:
    """Write all numbers; return the files' names."""
    reduced = summary.plan.reduced
    comment = "".join(f"# reduced: {text}\n" for text in reduced)
    write_atomically(out / "scores.csv", writers.scores_csv(summary))
    write_atomically(out / "runs.csv", writers.runs_csv(summary))
    write_atomically(out / "tables.csv", writers.tables_csv(every, reduced))
    with open(out / "curves.csv", "w", encoding="utf-8") as file:  # may be large: a data set at a time
        file.write(comment)
        for i, dataset in enumerate(summary.datasets):
            file.write(writers.table_csv(summary.evaluations(dataset), header=i == 0))
    for name, paper_figure in shown.items():
        write_atomically(out / f"{name}.csv", comment + writers.table_csv(paper_figure.seeds))
    return ["scores.csv", "runs.csv", "tables.csv", "curves.csv", *(f"{name}.csv" for name in shown)]


def facts(plan: Plan, records: Mapping[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what the runs were computed with, each fact once with the number of runs it holds for."""
    counts: dict[str, Counter[str]] = {}
    for record in records.values():
        compute, code = record["compute"], record["code"]
        versions = ", ".join(f"{name} {version}" for name, version in compute["versions"].items())
        commit = (
            f"{code['commit'][:10]}{' (changed)' if code['dirty'] else ''}" if code["commit"] else "release"
        )
        for key, value in {
            "hardware": f"{compute['processor']}, device {compute['device']}, {compute['threads']} thread(s)",
            "matmuls": f"float32 precision {compute['matmul_precision']}",
            "updates": f"{'' if compute['compiled'] else 'not '}compiled, engine {compute['engine']}",
            "versions": versions,
            "o2obench": f"{code['version']}, {commit}",
            "resumed on another machine": "; ".join(map(str, record["mismatch"])) or "no",
        }.items():
            counts.setdefault(key, Counter())[value] += 1
    shown = []
    for key, values in counts.items():
        many = len(values) > 1
        text = "; ".join(f"{value} ({n} runs)" if many else value for value, n in sorted(values.items()))
        shown.append((key, text))
    protocol = plan.runs[-1].spec.protocol
    evaluation = (
        f"{schedule_text(protocol.steps, 'steps')} {protocol.episodes} episodes, at the online start and "
        f"at the end of each stage {protocol.final_episodes}; mean action; start states shared by all methods"
    )
    seeds = ("seeds", ", ".join(map(str, plan.seeds)))
    return [("evaluation", evaluation), seeds, *shown]


def _cost(plan: Plan, results: ResultsFolder) -> str:
    """Return what the grid cost in process hours, and on what."""
    spent = parts(plan.runs, results)
    total = sum(spent.values())
    shares = [f"{part} {used / total:.0%}" for part, used in spent.items() if used >= 0.005 * total > 0]
    return f"{total / 3600:.2f} process hours, pretraining included ({', '.join(shares) or 'not noted'})"
