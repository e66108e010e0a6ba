"""Ways to draw without a screen: variables that name one, and what is said where it does not work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from o2obench.envs import rendering
from o2obench.envs.spec import find_env
from o2obench.errors import UserError

MAKE = """import os
from o2obench.envs.spec import find_env
find_env('InvertedPendulum-v4').make().reset()
print(os.environ['MUJOCO_GL'])"""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in rendering.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "works", "said"),
    [
        ({}, (), "neither EGL nor OSMesa works; install one, on Debian: apt install libegl1 or libosmesa6"),
        (
            {"MUJOCO_GL": "osmesa"},
            ("egl",),
            "MUJOCO_GL=osmesa does not work; unset MUJOCO_GL, egl works",
        ),
        (
            {"MUJOCO_GL": "nothing"},
            (),
            "MUJOCO_GL=nothing does not work, and neither EGL nor OSMesa works; install one",
        ),
        (
            {"PYOPENGL_PLATFORM": "wayland"},
            ("egl", "osmesa"),
            "PYOPENGL_PLATFORM=wayland does not work; unset PYOPENGL_PLATFORM, egl works",
        ),
        (
            {"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "99"},
            ("osmesa",),
            "DEVICE_ID=99 does not work; unset MUJOCO_GL and MUJOCO_EGL_DEVICE_ID, osmesa works",
        ),
    ],
)
def test_what_does_not_draw_is_named_with_the_remedy(
    given: dict[str, str], works: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draws(variables: Mapping[str, str]) -> bool:
        asked = any(variables.get(name) == value for name, value in given.items())
        return not asked and variables["MUJOCO_GL"] in works

    monkeypatch.setattr(rendering, "_draws", draws)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="InvertedPendulum-v4: cannot be drawn here: ") as refused:
        rendering.with_pictures(find_env("InvertedPendulum-v4"))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_way_that_does_not_exist_is_tried_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nothing")
    with pytest.raises(UserError, match="MUJOCO_GL=nothing does not work"):
        rendering.with_pictures(find_env("InvertedPendulum-v4"))


def test_a_ways_name_may_be_written_as_mujoco_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_draws", lambda variables: variables["MUJOCO_GL"] == "egl")
    monkeypatch.setenv("MUJOCO_GL", " EGL ")
    assert rendering._graphics("Hopper-v4") == "egl"


@pytest.mark.parametrize("value", ["nothing", "osmesa"])
def test_an_environment_that_is_not_drawn_needs_no_way_to_draw(value: str) -> None:
    variables = {**os.environ, "MUJOCO_GL": value, "PYOPENGL_PLATFORM": "wayland"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", MAKE], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == value, "the variable is the user's"
