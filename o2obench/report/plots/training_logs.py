"""What agents logged at each model training, and how MOORe's penalty fades."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..colours import lines_of
from ..summary import Summary
from .style import (
    BAND,
    STYLE,
    Drawing,
    Target,
    belongs,
    finish,
    heading,
    logarithmic,
    prepared,
    save,
    seeds_of,
    share_legend,
)

MEAN = "uncertainty/mean"
KL, DOUBT, SHARE, ERROR = (
    "model_change/online/kl",
    "uncertainty",
    "replay/offline_ratio",
    "held_out/online/mse",
)
LOGGED = (KL, *(f"{DOUBT}/{name}" for name in ("q20", "q50", "q80")), SHARE, ERROR)
FEW_POINTS = 3
"""Fewer are single trainings, which no line joins."""
LEAST = 1e-4
"""What has not moved at all is drawn here on a logarithmic axis."""
PANELS = {
    KL: f"KL(old || new), online transitions (nats, ≥ {LEAST:g})",
    ERROR: "held-out squared error, online transitions",
    f"{DOUBT}/q50": "uncertainty of model transitions (20, 50, 80 %)",
    SHARE: "share of offline transitions",
}


def diagnostics(summary: Summary, dataset: str, target: Target) -> Drawing | None:
    """Draw what was logged at each model training; None where there is nothing."""
    rows = summary.logged(LOGGED, dataset)
    panels = [name for name in PANELS if rows[rows.name == name].value.nunique() > 1]
    if not panels:
        return None
    plt = prepared()
    with plt.rc_context(STYLE):
        width = max(9.2, 2.4 + 3.0 * len(panels))
        figure, axes = plt.subplots(1, len(panels), squeeze=False, figsize=(width, 3.3))
        for axis, name in zip(axes[0], panels, strict=True):
            for method, line in lines_of(summary.plan).items():
                _logged(axis, rows[rows.method == method], name, method, line)
            axis.set_title(PANELS[name], loc="left", fontsize=8, color="#555555")
            axis.set_xlabel("environment steps")
            axis.grid(True, axis="y")
            if name == KL:
                logarithmic(axis, 1)
        room = share_legend(figure, axes[0])
        how = "at each model training; line: mean, band: least to greatest seed"
        finish(figure, heading(summary.plan, dataset, how), w_pad=0.8, **room)
        return Drawing(save(figure, target, summary.methods))


FADES = (
    "Right: the relative uncertainty error, |change of the mean uncertainty of model transitions from one "
    "model training to the next| over the reward per step of the training episodes that ended in the same "
    "1,000 steps; all seeds and trainings together, line: median. The paper divides sums over an occupancy "
    "measure, these are means per step."
)


def fading(summary: Summary, dataset: str, target: Target) -> Drawing | None:
    """Draw MOORe's Fig. 4: how the penalty fades, and its relative error; None where there is nothing.

    Left: mean over seeds of the 50 % quantile, band from the 20 % to the 80 % quantile. Right: the
    distribution of ``relative_error`` over all pairs of successive model trainings and all seeds.
    """
    rows = summary.logged((MEAN, *(f"{DOUBT}/{name}" for name in ("q20", "q50", "q80"))), dataset)
    errors = relative_error(rows, summary.episodes(dataset))
    if errors.empty:
        return None
    plt = prepared()
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.5))
        for method, (colour, dash) in lines_of(summary.plan).items():
            _logged(left, rows[rows.method == method], f"{DOUBT}/q50", method, (colour, dash))
            values = errors[errors.method == method].value
            if len(values):
                label = f"{method}: median {values.median():.2g}, 95 % below {values.quantile(0.95):.2g}"
                _, _, bars = right.hist(values, bins=40, density=True, color=colour, alpha=0.35, label=label)
                middle = right.axvline(values.median(), ymax=0.8, color=colour, lw=1.4)
                for artist in (*bars, middle):
                    belongs(artist, summary.methods, method)
        left.set(xlabel="environment steps", ylabel="uncertainty u of model transitions")
        left.set_title("line: 50 %, band: 20 to 80 % of the rows", loc="left", fontsize=8, color="#555555")
        right.set(xlabel="|change of mean u| / reward per step", ylabel="density")
        left.set_ylim(bottom=0)
        left.locator_params(axis="x", nbins=5)
        right.set_xlim(left=0)
        right.set_ylim(top=1.25 * right.get_ylim()[1])
        right.set_title("between successive model trainings", loc="left", fontsize=8, color="#555555")
        for axis in (left, right):
            axis.grid(True, axis="y")
            axis.legend(frameon=False, loc="upper right")
        n = seeds_of(errors.groupby("method").seed.nunique().tolist())
        finish(figure, heading(summary.plan, dataset, n), w_pad=1.2)
        return Drawing(save(figure, target, summary.methods), FADES)


def relative_error(rows: pd.DataFrame, played: pd.DataFrame) -> pd.DataFrame:
    """Return MOORe's relative uncertainty error of each model training but the first: method, seed, value.

    The paper's |U_t - U_{t+1}| / eta_t prints its indices in two ways; Theorem 2 needs each U under its own
    model and policy, which is what a rollout after each training logs. There U and the return are both sums
    over an occupancy measure; what is logged is a mean over model transitions. So the return is taken per
    step, too: of the training episodes that ended in the same 1,000 steps, or in the nearest such before
    (else after). A mean per step over the return of a whole episode would be smaller by its length, and mean
    nothing.
    """
    errors = []
    for (method, seed), own in rows[rows.name == MEAN].groupby(["method", "seed"], sort=False):
        mine = played[(played.method == method) & (played.seed == seed)]
        epochs = mine.groupby((mine.env_steps - 1) // 1000)[["return", "length"]].sum()
        if epochs.empty:
            continue
        now = ((own.env_steps - 1).clip(lower=0) // 1000).to_numpy()[1:]
        index = range(max(now.max(initial=0), epochs.index.max()) + 1)
        per_step = (epochs["return"] / epochs.length).reindex(index).ffill().bfill()
        change = own.value.diff().abs().to_numpy()[1:]
        errors += [(method, seed, a / abs(b)) for a, b in zip(change, per_step[now], strict=True) if b]
    return pd.DataFrame(errors, columns=["method", "seed", "value"])


def _logged(axis: Any, rows: pd.DataFrame, name: str, method: str, line: tuple[Any, str]) -> None:
    """Draw one quantity of one method; of uncertainty the mean quantiles, of all else the range of seeds."""
    of = {
        key: part.pivot_table(index="env_steps", columns="seed", values="value")
        for key, part in rows.groupby("name")
    }
    if name not in of:
        return
    colour, dash = line
    wide = of[name].clip(lower=LEAST) if name == KL else of[name]
    low, high = wide.min(axis=1), wide.max(axis=1)
    if name.startswith(DOUBT):
        low, high = (of[f"{DOUBT}/{edge}"].mean(axis=1) for edge in ("q20", "q80"))
    if len(wide) < FEW_POINTS:
        axis.vlines(wide.index, low, high, color=colour, alpha=0.4, lw=1.4, label=BAND + method)
        axis.plot(wide.index, wide.mean(axis=1), color=colour, linestyle="", marker="o", ms=4, label=method)
        return
    axis.fill_between(wide.index, low, high, color=colour, alpha=0.12, lw=0, label=BAND + method)
    axis.plot(wide.index, wide.mean(axis=1), color=colour, linestyle=dash, label=method, lw=1.4)
