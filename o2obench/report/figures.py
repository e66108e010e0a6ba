"""The learning curves: offline left of the switch, online right of it, seeds as points of one mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ..plan import Plan

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "o2obench",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "grid.color": "#e6e6e6",
}
OFFLINE = "#777777"


def colours(plan: Plan) -> dict[str, Any]:
    """Give every label its colour, the same in all figures; seaborn's colour-blind palette."""
    import seaborn

    labels = list(dict.fromkeys(cell.label for cell in plan.cells))
    palette = seaborn.color_palette("colorblind", max(10, len(labels)))
    return dict(zip(labels, palette, strict=False))


def curves(plan: Plan, table: pd.DataFrame, dataset: str, stem: Path) -> None:
    """Write ``stem`` as .svg, .pdf and .png: mean over seeds, band from least to greatest seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    own = table[table.dataset == dataset]
    offline, online = (own[own.phase == phase] for phase in ("offline", "online"))
    panels = [name for name, part in (("offline", offline), ("online", online)) if len(part)]
    with plt.rc_context(STYLE):
        widths = [1 if name == "offline" else 2 for name in panels]
        figure, axes = plt.subplots(
            *(1, len(panels)), sharey=True, squeeze=False, width_ratios=widths, figsize=(8.4, 3.5)
        )
        axis_of = dict(zip(panels, axes[0], strict=True))
        if "offline" in axis_of:
            _offline(axis_of["offline"], offline)
        if "online" in axis_of:
            _online(axis_of["online"], online, colours(plan))
        axes[0][0].set_ylabel("normalised score")
        figure.suptitle(_title(plan, dataset, own), x=0.01, ha="left", fontsize=10, color="#222222")
        figure.tight_layout(w_pad=0.6)
        for kind, extra in (("svg", {"Date": None}), ("pdf", {"CreationDate": None}), ("png", {})):
            figure.savefig(stem.with_suffix(f".{kind}"), metadata=extra, dpi=160)
        plt.close(figure)


KL, DOUBT, SHARE, ERROR = "moved/online/kl", "uncertainty", "rows/offline", "held_out/online/mse"
LOGGED = (KL, *(f"{DOUBT}/{name}" for name in ("q20", "q50", "q80")), SHARE, ERROR)
LEAST = 1e-4
"""What has not moved at all is drawn here on a logarithmic axis."""
PANELS = {
    KL: f"KL(old || new), online rows (nats, at least {LEAST:g})",
    ERROR: "held-out squared error, online rows",
    f"{DOUBT}/q50": "uncertainty of model rows (20, 50, 80 %)",
    SHARE: "share of offline rows",
}


def diagnostics(plan: Plan, rows: pd.DataFrame, dataset: str, stem: Path) -> bool:
    """Write what was logged at each model training as .svg, .pdf and .png; return whether there was any."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    own = rows[rows.dataset == dataset]
    panels = [name for name in PANELS if own[own.name == name].value.nunique() > 1]
    if not panels:
        return False
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), squeeze=False, figsize=(0.6 + 3.2 * len(panels), 3.3))
        for axis, name in zip(axes[0], panels, strict=True):
            for label, colour in colours(plan).items():
                _logged(axis, own[own.label == label], name, label, colour)
            axis.set_title(PANELS[name], loc="left", fontsize=8, color="#555555")
            axis.set_xlabel("environment steps")
            axis.grid(True, axis="y")
            if name in (KL, ERROR):
                axis.set_yscale("log")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        cut = ", reduced budget" if plan.reduced else ""
        title = f"{dataset}   (at each model training; line: mean, band: least to greatest seed{cut})"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color="#222222")
        figure.tight_layout(w_pad=0.8)
        for kind, extra in (("svg", {"Date": None}), ("pdf", {"CreationDate": None}), ("png", {})):
            figure.savefig(stem.with_suffix(f".{kind}"), metadata=extra, dpi=160, bbox_inches="tight")
        plt.close(figure)
    return True


def _logged(axis: Any, rows: pd.DataFrame, name: str, label: str, colour: Any) -> None:
    """Draw one quantity of one method; of uncertainty the mean quantiles, of all else the range of seeds."""
    of = {
        key: part.pivot_table(index="env_steps", columns="seed", values="value")
        for key, part in rows.groupby("name")
    }
    if name not in of:
        return
    wide = of[name].clip(lower=LEAST) if name == KL else of[name]
    low, high = wide.min(axis=1), wide.max(axis=1)
    if name.startswith(DOUBT):
        low, high = (of[f"{DOUBT}/{edge}"].mean(axis=1) for edge in ("q20", "q80"))
    axis.fill_between(wide.index, low, high, color=colour, alpha=0.12, lw=0)
    axis.plot(wide.index, wide.mean(axis=1), color=colour, label=label, lw=1.4)


def _title(plan: Plan, dataset: str, own: pd.DataFrame) -> str:
    counts = own.groupby("label").seed.nunique()
    n = f"n = {counts.min()}" if counts.min() == counts.max() else f"n = {counts.min()} to {counts.max()}"
    cut = ", reduced budget" if plan.reduced else ""
    return f"{dataset}   ({n} seeds; line: mean, band: least to greatest seed{cut})"


def _offline(axis: Any, rows: pd.DataFrame) -> None:
    """Draw each pretraining run once, however many algorithms start from it."""
    once = rows.drop_duplicates(["seed", "stage", "updates", "mean_return"])
    unit, words = _unit(once.updates)
    _band(axis, once, "updates", OFFLINE, "pretraining", unit)
    axis.set_xlabel(f"offline updates{words}")
    axis.set_title("offline", loc="left", fontsize=9, color="#555555")
    axis.margins(x=0.02)
    axis.grid(True, axis="y")


def _online(axis: Any, rows: pd.DataFrame, palette: dict[str, Any]) -> None:
    unit, words = _unit(rows.env_steps)
    for label, own in rows.groupby("label", sort=False):
        _band(axis, own, "env_steps", palette[str(label)], str(label), unit)
    axis.set_xlabel(f"environment steps{words}")
    axis.set_title("online", loc="left", fontsize=9, color="#555555")
    axis.margins(x=0.02)
    axis.grid(True, axis="y")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _band(axis: Any, rows: pd.DataFrame, x: str, colour: Any, label: str, unit: int) -> None:
    """Draw mean and range over the seeds at the clocks that all of them have reached."""
    last = rows.drop_duplicates(["seed", x], keep="last")
    wide = last.pivot(index=x, columns="seed", values="score").dropna()
    axis.fill_between(wide.index / unit, wide.min(axis=1), wide.max(axis=1), color=colour, alpha=0.15, lw=0)
    axis.plot(wide.index / unit, wide.mean(axis=1), color=colour, label=label, lw=1.8)


def _unit(clock: Any) -> tuple[int, str]:
    """Return the unit of an axis and how to say it."""
    return (1000, " (thousands)") if clock.max() > 20_000 else (1, "")
