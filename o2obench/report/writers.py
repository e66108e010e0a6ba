"""Tables written down: Markdown, LaTeX (booktabs) and tidy CSV. HTML is a macro of the page's template."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import pandas as pd

from .cells import Table, Value
from .metrics import CHANGE, metric_of
from .summary import Summary

LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "\N{EN DASH}": "--",
    "\N{MINUS SIGN}": "$-$",
    "→": r"$\rightarrow$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "↓": r"$\downarrow$",
}
GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu "
    "nu xi pi rho sigma tau upsilon phi chi psi omega"
)
NAMES = dict(zip("αβγδεζηθικλμνξπρστυφχψω", GREEK.split(), strict=True))
NAMES |= {letter: NAMES[letter.lower()].capitalize() for letter in "ΓΔΘΛΞΠΣΥΦΨΩ"}
LATEX |= {letter: rf"$\{name}$" for letter, name in NAMES.items()}
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")
"""What no name should hold, and what would change how the text around it is read."""


def plain(text: str) -> str:
    """Return a text without control characters."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


# Markdown


def markdown(table: Table) -> str:
    """Return a table as GitHub's Markdown."""
    head = [in_markdown(column.name) for column in table.columns]
    rule = ["---" if column.text else "---:" for column in table.columns]
    rows = [[_md_cell(cell) for cell in row.cells] for row in table.rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))


def _md_cell(cell: Value) -> str:
    text = in_markdown(cell.text)
    text = f"**{text}**" if cell.mark == "best" else f"{text} {cell.sign}".rstrip()
    return f"{text} ({in_markdown(cell.beside)})" if cell.beside else text


def in_markdown(text: str) -> str:
    """Escape what Markdown or the HTML inside it would read as markup."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|*_`\[\]])", r"\\\1", text)


# LaTeX


def latex(tables: Sequence[Table], label: str, reduced: Sequence[str]) -> str:
    """Return tables of one kind (one for each data set, or a single one) as a booktabs table."""
    first = tables[0]
    columns = "".join("l" if column.text else "r" for column in first.columns)
    lines = ["% Needs \\usepackage{booktabs}. Made by o2obench report; do not edit, make it again."]
    lines += [f"% reduced: {plain(text)}" for text in reduced]
    lines += [r"\begin{table}", r"\centering", r"\small", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [_tex_row([_tex_head(table_column) for table_column in first.columns])]
    several = len(tables) > 1
    for table in tables:
        lines.append(r"\midrule")
        if several and table.rows:
            words = _tex(table.rows[0].dataset)
            lines.append(rf"\multicolumn{{{len(first.columns)}}}{{l}}{{\emph{{{words}}}}} \\")
        lines += [_tex_row([_tex_cell(cell) for cell in row.cells]) for row in table.rows]
    cut = f" Reduced budget, not comparable with published scores: {'; '.join(reduced)}." if reduced else ""
    left = f" {'; '.join(first.left_out)}." if first.left_out else ""
    caption = _tex(f"{first.title}. {first.note.strip()}{left}{cut}")
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{label}}}",
        r"\end{table}",
    ]
    others = sorted({letter for letter in "".join(lines) if not letter.isascii() and letter.isalpha()})
    if others:
        lines.insert(
            1, f"% Holds {' '.join(others)}: pdflatex reads Latin letters, lualatex all that its font has."
        )
    return "\n".join(lines) + "\n"


def _tex_row(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _tex_head(column: object) -> str:
    name, better = getattr(column, "name", ""), getattr(column, "better", "")
    return _tex(name) + {"higher": r" $\uparrow$", "lower": r" $\downarrow$"}.get(better, "")


def _tex_cell(cell: Value) -> str:
    text = re.sub(r"(?<![\w.])-(?=\d)", "$-$", _tex(cell.text))
    text = "{[}".join(text.split("["))
    return rf"\textbf{{{text}}}" if cell.mark == "best" else f"{text} {_tex(cell.sign)}".rstrip()


def _tex(text: str) -> str:
    """Escape everything that LaTeX would read as a command; other letters stay, for it reads UTF-8."""
    return "".join(LATEX.get(character, character) for character in unicodedata.normalize("NFC", plain(text)))


# CSV


def tables_csv(tables: Iterable[Table], reduced: Sequence[str]) -> str:
    """Return every number of the tables, one line each, with its interval and the seeds behind it."""
    head = [
        "table",
        "dataset",
        "method",
        "metric",
        "unit",
        "value",
        "low",
        "high",
        "n",
        "interval",
        "mark",
    ]
    return _csv(head, _numbers(tables), reduced)


def _numbers(tables: Iterable[Table]) -> Iterator[list[object]]:
    for table in tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                if cell.value is not None:
                    named = {"final": column.name, "beside": row.cells[0].text}
                    label = row.method or named.get(table.name, "")
                    numbers = [_digits(value) for value in (cell.value, cell.low, cell.high)]
                    n = "" if cell.n is None else cell.n
                    names = [table.name, row.dataset, label, column.name, column.unit]
                    yield [*names, *numbers, n, cell.interval, cell.mark or ""]


def runs_csv(summary: Summary) -> str:
    """Return every number of every run, one line each, beside the control's of the same seed."""
    head = [
        "dataset",
        "method",
        "seed",
        "metric",
        "unit",
        "value",
        "lower_bound",
        "control",
        "difference",
    ]
    return _csv(head, _values(summary), summary.plan.reduced)


def _values(summary: Summary) -> Iterator[list[object]]:
    for line in summary.method_results:
        control = summary.control_of(line)
        of_control = {run.seed: run.values for run in control.runs} if control else {}
        for run in line.runs:
            for name, value in run.values.items():
                if value is None:
                    continue
                other = of_control.get(run.seed, {}).get(name)
                difference = None if other is None else value - other
                numbers = [_digits(value), int(name in run.censored), _digits(other), _digits(difference)]
                yield [line.dataset, line.method, run.seed, name, metric_of(name).unit, *numbers]


def scores_csv(summary: Summary) -> str:
    """Return start, final and change, one line per method, data set and seed."""
    head = ["dataset", "method", "seed", "start", "final", "change", "updates", "env_steps"]
    rows = (
        [
            line.dataset,
            line.method,
            run.seed,
            *(f"{v:.4f}" for v in (a, b)),
            "" if run.values[CHANGE] is None else f"{b - a:.4f}",
            run.updates,
            line.env_steps,
        ]
        for line in summary.method_results
        for run, a, b in zip(line.runs, line.start, line.final, strict=True)
    )
    return _csv(head, rows, summary.plan.reduced)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]], reduced: Sequence[str]) -> str:
    """Return CSV with what is reduced in a last column; no cell is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, "reduced"])
    cut = _safe("; ".join(reduced))
    for row in rows:
        writer.writerow([*(_safe(cell) for cell in row), cut])
    return text.getvalue()


def _safe(cell: object) -> object:
    """Keep a spreadsheet from reading a name as a formula; numbers stay numbers."""
    if not isinstance(cell, str):
        return cell
    text = plain(cell)
    number = re.fullmatch(r"[+-]?\d[\d.e+-]*", text)
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") and text and not number else text


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def table_csv(table: pd.DataFrame, header: bool = True) -> str:
    """Return a table as CSV; no cell of text is a formula."""
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    safe = {name: table[name].map({text: _safe(text) for text in table[name].unique()}) for name in texts}
    return str(table.assign(**safe).to_csv(index=False, header=header))


def by_name(tables: Iterable[Table]) -> dict[str, list[Table]]:
    """Return tables by the name of their files, in their order."""
    ordered = sorted(tables, key=lambda table: table.name)
    return {name: list(group) for name, group in groupby(ordered, key=lambda table: table.name)}
