"""One colour and line style for each method, the same on every page and in every figure of every suite.

All colours stand out 3:1 from white and from the dark page's ground; the line style is a second sign.
"""

from __future__ import annotations

import zlib

from ..planning.plan import Plan

PALETTE = (
    *("#1f77d0", "#d9601a", "#1f9a58", "#d43d51", "#8a63d2", "#a06a2c"),
    *("#d0559f", "#7d8a12", "#128fa3", "#5b6ee0", "#b8860b", "#b344c9"),
)
GREY = "#777f87"
"""What never learns online: controls and pretrainings."""
DASHES = ("-", "--", ":", "-.")
PLACES = {
    **{"naive": 0, "comou": 1, "moore": 2, "doof": 3, "mbpo": 4, "wsrl": 5, "awac": 6, "td3_bc": 7},
    **{"iql": 8, "cql": 9, "cal_ql": 10, "rlpd": 11},
}
"""The usual methods' places in the palette, so that they never look alike; others' come from their names."""
VARIANTS = {
    "naive (online)": ("naive", 0),
    "naive (union)": ("iql", 1),
    "naive (online, penalised)": ("td3_bc", 1),
    "naive (union, penalised)": ("cql", 2),
    "naive (online, scaler refitted)": ("mbpo", 3),
    "comou (online)": ("comou", 0),
    "comou (union)": ("moore", 1),
    "comou (online, scaler refitted)": ("awac", 2),
    "sac": ("wsrl", 1),
}
"""Labels of the packaged suites that stand side by side: whose colour they take, and their line style."""

Line = tuple[str, str]
"""A colour and a line style of matplotlib."""


def line_of(method: str) -> Line:
    """Return the colour and the line style of a method, by its name alone."""
    name = method.casefold()
    if name in VARIANTS:
        like, dash = VARIANTS[name]
        return PALETTE[PLACES[like]], DASHES[dash]
    usual = name.removesuffix("_finetune")
    if usual in PLACES:
        return PALETTE[PLACES[usual]], DASHES[0]
    place = zlib.crc32(name.encode())
    return PALETTE[place % len(PALETTE)], DASHES[1 + place // len(PALETTE) % 3]


def lines_of(plan: Plan) -> dict[str, Line]:
    """Return every method's line; controls and pretrainings are grey, and no two of a plan are alike."""
    lines: dict[str, Line] = {}
    for experiment in plan.experiments:
        if experiment.method in lines:
            continue
        tunes = experiment.parent or any(
            stage.env_steps for stage in plan.stages[plan.run(experiment.run).group]
        )
        colour, dash = line_of(experiment.method)
        if experiment.algorithm == "frozen" or not tunes:
            colour, dash = GREY, DASHES[1] if tunes else DASHES[0]
        for other in (dash, *DASHES):
            if (colour, other) not in lines.values():
                dash = other
                break
        lines[experiment.method] = (colour, dash)
    return lines
