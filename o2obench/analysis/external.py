"""Curves of others, brought in as CSV: drawn beside ours and listed in a table of their own, never pooled."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..planning.plan import Plan
from ..util.config import nearest
from ..util.files import expanded, open_plain, sha256

COLUMNS = ("env_steps", "score", "seed")
"""What a file must have; ``dataset`` too where suites have several."""


@dataclass(frozen=True, eq=False)
class ExternalResult:
    """Somebody's runs as they gave them.

    ``rows``: dataset ("": whatever there is), seed, env_steps, score.
    """

    name: str
    file: str
    sha256: str
    rows: pd.DataFrame

    def on(self, dataset: str) -> pd.DataFrame:
        """Return the rows that belong to a data set, in the order of seeds and steps."""
        own = self.rows[self.rows.dataset.isin(("", dataset))]
        return own.sort_values(["seed", "env_steps"], ignore_index=True)

    def doubt(self) -> str:
        """Return what looks wrong about the scores; empty: nothing does."""
        looks_like_shares = len(self.rows) > 1 and self.rows.score.between(-0.5, 1.5).all()
        return "all scores lie between 0 and 1; ours are times 100" if looks_like_shares else ""

    @property
    def datasets(self) -> frozenset[str]:
        """The data sets that the file names."""
        return frozenset(self.rows.dataset) - {""}


def read_external(texts: Iterable[str], plans: Sequence[Plan]) -> tuple[ExternalResult, ...]:
    """Read ``name=file.csv`` one by one; raise UserError where one cannot stand beside these plans."""
    externals = list[ExternalResult]()
    for text in texts:
        name, equals, file = text.partition("=")
        if not (equals and name and file):
            raise UserError(f"--with {text}: write it as name=file.csv")
        if any(name == experiment.method for plan in plans for experiment in plan.experiments):
            raise UserError(f"--with {text}: {name} is an algorithm of the suite; give theirs another name")
        if any(name == external.name for external in externals):
            raise UserError(f"--with {text}: {name} is named twice; give each file its own name")
        externals.append(_read(name, expanded(file), plans))
    return tuple(externals)


def _read(name: str, file: Path, plans: Sequence[Plan]) -> ExternalResult:
    datasets = sorted({experiment.dataset for plan in plans for experiment in plan.experiments})
    try:
        with open_plain(file, follow=True) as binary:
            stream = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
            first = stream.readline()
            header = next(csv.reader([first], delimiter=(mark := _delimiter(first))), [])
            header = [name.strip().lower() for name in header]
            reader = csv.DictReader(stream, header, delimiter=mark)
            doubled = [name for name in (*COLUMNS, "dataset") if header.count(name) > 1]
            if doubled:
                raise UserError(f"{file}:1: column {doubled[0]} stands there twice; leave one of them out")
            lacking = [column for column in COLUMNS if column not in header]
            if "dataset" not in header and len(datasets) > 1:
                lacking.append("dataset")
            if lacking:
                needed = ", ".join((*COLUMNS, *(["dataset"] if len(datasets) > 1 else [])))
                raise UserError(f"{file}:1: no column {' and '.join(lacking)}; it needs {needed}")
            rows = [_row(file, reader.line_num + 1, row, datasets) for row in reader]
    except OSError as error:
        raise UserError(f"--with {name}={file}: cannot be read: {error.strerror}; name a CSV file") from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"--with {name}={file}: is not a CSV file in UTF-8; export it as one") from None
    if not rows:
        raise UserError(f"{file}: holds no evaluation; one row for each, with {', '.join(COLUMNS)}")
    table = pd.DataFrame(rows, columns=["dataset", "seed", "env_steps", "score"])
    twice = table[table.duplicated(["dataset", "seed", "env_steps"])]
    if len(twice):
        where = f"step {twice.env_steps.iloc[0]:,} of seed {twice.seed.iloc[0]}"
        raise UserError(f"{file}: {where} stands there twice; one row for each evaluation")
    return ExternalResult(name, file.name, sha256(file, follow=True), table)


def _delimiter(header: str) -> str:
    """Return what parts the columns: a comma, or a semicolon or a tab where there are more of them."""
    return max(",;\t", key=header.count)


def _row(
    file: Path, line: int, row: Mapping[str | None, str | None], names: Sequence[str]
) -> tuple[object, ...]:
    if None in row:
        raise UserError(f"{file}:{line}: has more cells than the header; quote a cell that holds a comma")
    dataset = (row.get("dataset") or "").strip()
    if "dataset" in row and dataset not in names:
        raise UserError(
            f"{file}:{line}: dataset: {dataset or 'nothing'} is in no suite here; {nearest(dataset, names)}"
        )
    whole = dict[str, int]()
    for column in ("seed", "env_steps"):
        text = (row.get(column) or "").strip()
        if not re.fullmatch(r"[0-9]{1,15}(\.0*)?", text):
            raise UserError(f"{file}:{line}: {column}: {text or 'nothing'} is not a whole number from 0 on")
        whole[column] = int(text.partition(".")[0])
    text = (row.get("score") or "").strip()
    try:
        score = float(text) if re.fullmatch(r"[-+.0-9eE]+", text) else math.nan
    except ValueError:
        score = math.nan
    if not abs(score) < 1e9:
        raise UserError(f"{file}:{line}: score: {text or 'nothing'} is not a finite normalised score")
    return (dataset, whole["seed"], whole["env_steps"], score)


def ends(rows: pd.DataFrame, until: int | None = None) -> list[float]:
    """Return each seed's last score, or that at a step, where its curve is the straight line.

    Nothing where not all seeds end at one step, or went that far: scores at different steps have no mean.
    """
    curves = [(own.env_steps.to_numpy(), own.score.to_numpy()) for _, own in rows.groupby("seed", sort=True)]
    if until is None:
        return [float(scores[-1]) for _, scores in curves] if len({at[-1] for at, _ in curves}) == 1 else []
    if not all(at[0] <= until <= at[-1] for at, _ in curves):
        return []
    return [float(np.interp(until, at, scores)) for at, scores in curves]


def shared_curve(rows: pd.DataFrame, until: float = math.inf) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps that all seeds have, up to ``until``, and the scores (seeds, steps) there.

    A curve that goes on is cut there, where it is the straight line.
    """
    wide = rows.pivot(index="env_steps", columns="seed", values="score").dropna()
    steps, scores = wide.index.to_numpy(), wide.to_numpy().T
    inside = steps <= until
    if inside.all() or not inside.any() or steps[inside][-1] == until:
        return steps[inside], scores[:, inside]
    last = [[np.interp(until, steps, curve)] for curve in scores]
    return np.append(steps[inside], until), np.append(scores[:, inside], last, axis=1)
