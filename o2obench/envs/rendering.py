"""Environments that can be drawn, without a screen."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import UserError
from ..util.interpreter import PYTHON
from .ogbench import is_single_task
from .spec import EnvSpec, gymnasium_maker


def with_pictures(spec: EnvSpec) -> Any:
    """Make an environment whose ``render()`` returns a picture (height, width, 3), uint8, without a screen.

    Raises UserError when it cannot be drawn on this machine; the line says what to install.
    """
    import gymnasium

    registered, of_ogbench = gymnasium.registry.get(spec.id), is_single_task(spec.id)
    if of_ogbench or (registered is not None and "mujoco" in str(registered.entry_point)):
        way, chosen = _graphics(spec.id), os.environ.get("MUJOCO_GL")
        if of_ogbench and chosen != way:  # MuJoCo is loaded by now, and has chosen for good
            raise UserError(
                f"environment {spec.id}: is drawn only if MUJOCO_GL={way} is set before the start"
            )
        os.environ["MUJOCO_GL"] = way
    plain = registered is None or of_ogbench
    try:
        env = spec.make() if plain else gymnasium_maker(spec.id, render_mode="rgb_array")()
        env.reset(seed=0)
        if np.ndim(env.render()) != 3:
            raise ValueError("its render() returns no picture (height, width, 3)")
    except Exception as error:  # noqa: BLE001  (whatever keeps an environment from being drawn)
        why = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"environment {spec.id}: cannot be drawn here: {why[0]}") from None
    return env


GRAPHICS = ("egl", "osmesa")
"""MuJoCo's ways to draw without a screen, the faster first."""
VARIABLES = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "MUJOCO_EGL_DEVICE_ID")
"""What decides in the environment how MuJoCo draws; the first names a way."""
PROBE = """import mujoco
context = mujoco.GLContext(16, 16)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100.value)"""


def _graphics(env_id: str) -> str:
    """Return the way that works here; raise UserError naming what to unset or to install."""
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    named = given.get("MUJOCO_GL", "").strip().lower()
    for way in (named,) if named else GRAPHICS:
        if _draws({**os.environ, "MUJOCO_GL": way}):
            return way
    others = {name: value for name, value in os.environ.items() if name not in given}
    working = [way for way in GRAPHICS if given and _draws({**others, "MUJOCO_GL": way})]
    settings = " ".join(f"{name}={value}" for name, value in given.items())
    if working:
        problem = f"{settings} does not work; unset {' and '.join(given)}, {working[0]} works"
    else:
        problem = f"{settings} does not work, and " if given else ""
        problem += "neither EGL nor OSMesa works; install one, on Debian: apt install libegl1 or libosmesa6"
    raise UserError(f"environment {env_id}: cannot be drawn here: {problem}")


def _draws(variables: Mapping[str, str]) -> bool:
    """Try to draw, in a process of its own: a failed try spoils what comes after."""
    try:
        tried = subprocess.run([*PYTHON, "-c", PROBE], env=variables, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return tried.returncode == 0
