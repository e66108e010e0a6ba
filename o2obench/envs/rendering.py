"""Environments that can be drawn, without a screen."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import numpy as np

from ..errors import UserError
from ..util.interpreter import PYTHON
from .spec import EnvSpec, gymnasium_maker


def with_pictures(spec: EnvSpec) -> Any:
    """Make an environment whose ``render()`` returns a picture (height, width, 3), uint8, without a screen.

    Raises UserError when it cannot be drawn on this machine; the line says what to install.
    """
    import gymnasium

    registered = gymnasium.registry.get(spec.id)
    if registered is not None and "mujoco" in str(registered.entry_point):
        os.environ["MUJOCO_GL"] = _graphics(spec.id)
    try:
        env = spec.make() if registered is None else gymnasium_maker(spec.id, render_mode="rgb_array")()
        env.reset(seed=0)
        if np.ndim(env.render()) != 3:
            raise ValueError("its render() returns no picture (height, width, 3)")
    except Exception as error:  # noqa: BLE001  (whatever keeps an environment from being drawn)
        why = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"environment {spec.id}: cannot be drawn here: {why[0]}") from None
    return env


GRAPHICS = ("egl", "osmesa")
"""MuJoCo's ways to draw without a screen, the faster first."""


def _graphics(env_id: str) -> str:
    """Return the way that works here, tried in a process of its own: a failed try spoils what comes after."""
    preset = os.environ.get("MUJOCO_GL")
    for way in (preset,) if preset else GRAPHICS:
        code = f"from mujoco.{way} import GLContext; GLContext(16, 16).make_current()"
        try:
            tried = subprocess.run(
                [*PYTHON, "-c", code],
                env={**os.environ, "MUJOCO_GL": way},
                capture_output=True,
                timeout=60,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if tried.returncode == 0:
            return way
    tried_ways = f"MUJOCO_GL={preset}" if preset else "neither EGL nor OSMesa"
    raise UserError(
        f"environment {env_id}: cannot be drawn here, {tried_ways} works; install one, on Debian: "
        "apt install libegl1 or libosmesa6"
    )
