"""The environment that Minari's metadata describe: an id and plain arguments, never the code they name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..envs import kitchen, robotics_antmaze
from ..envs.spec import default_arguments
from ..errors import UserError

DRAWING = {"render_mode", "width", "height", "camera_id", "camera_name", "default_camera_config"}
HARMLESS = {*DRAWING, "max_geom", "visual_options", "max_episode_steps", "disable_env_checker"}
"""Arguments of an environment that change neither its dynamics nor its rewards."""
RECORDERS = {
    "gymnasium": {"OrderEnforcing", "PassiveEnvChecker", "TimeLimit", "RecordEpisodeStatistics"}
    | {"RecordVideo", "RenderCollection", "HumanRendering"},
    "minari": {"DataCollector"},
    "stable_baselines3": {"Monitor"},
}
"""Wrappers by package that pass actions, observations and rewards through as they are."""
CHANGED = ": the data come from a changed {}, here it is the standard one"


def environment_of(path: Path, metadata: Mapping[str, Any]) -> str:
    """Return the id, known here, of the environment that metadata describe.

    AntMaze and Kitchen are played as ``eval_env_spec`` has them, where there is one: Minari's for evaluation.

    Raises:
        UserError: It is not described, or changed in what matters.
    """
    spec = _spec(path, metadata, "env_spec")
    name = spec["id"]
    if not name.startswith((robotics_antmaze.PREFIX, kitchen.PREFIX)):
        changed = _changed_arguments(name, spec.get("kwargs"))
        if changed:
            raise UserError(f"{path}: env_spec.kwargs: {', '.join(changed)}{CHANGED.format(name)}")
        return str(name)
    key = "env_spec" if metadata.get("eval_env_spec") is None else "eval_env_spec"
    recorded, played = (_without_drawing(_spec(path, metadata, described)) for described in ("env_spec", key))
    describe = _ant_maze if name.startswith(robotics_antmaze.PREFIX) else _kitchen
    return describe(recorded, played, f"{path}: env_spec", f"{path}: {key}")


def _spec(path: Path, metadata: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a description that names an id and no wrapper that changes the task."""
    text = metadata.get(key)
    if text is None:
        raise UserError(f"{path}: {key}: missing; it names the environment")
    try:
        spec = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        raise UserError(f"{path}: {key}: not JSON") from None
    spec = spec if isinstance(spec, dict) else {}
    name = spec.get("id")
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: {key}.id: {name!r}, expected an environment's id")
    changing = _changing_wrappers(spec.get("additional_wrappers"))
    if changing:
        raise UserError(f"{path}: {key}.additional_wrappers: {', '.join(changing)}{CHANGED.format(name)}")
    return spec


def _without_drawing(spec: Mapping[str, Any]) -> dict[str, Any]:
    arguments = spec.get("kwargs")
    if isinstance(arguments, dict):
        arguments = {key: value for key, value in arguments.items() if key not in HARMLESS}
    return {**spec, "kwargs": arguments}


def _ant_maze(recorded: Mapping[str, Any], played: Mapping[str, Any], of_data: str, place: str) -> str:
    """Return the id of the maze that is played, whose walls must be those in which the data were recorded."""
    data, maze = robotics_antmaze.described(recorded, of_data), robotics_antmaze.described(played, place)
    if (data.registered, data.walls) != (maze.registered, maze.walls):
        raise UserError(f"{place}: is another maze than that of env_spec, in which the data were recorded")
    return maze.id


def _kitchen(recorded: Mapping[str, Any], played: Mapping[str, Any], of_data: str, place: str) -> str:
    """Return the id of the kitchen that is played, whose tasks must be among those of the data."""
    data, tasks = kitchen.described_tasks(recorded, of_data), kitchen.described_tasks(played, place)
    if not tasks <= data:
        raise UserError(
            f"{place}.kwargs.tasks_to_complete: {', '.join(sorted(tasks - data))}: not in env_spec"
        )
    return kitchen.kitchen_of(tasks, place)


def _changed_arguments(env_id: str, arguments: Any) -> list[str]:
    """Return the arguments that make another task of an environment: neither harmless nor its defaults."""
    given = set(arguments) - HARMLESS if isinstance(arguments, dict) else set[str]()
    defaults = default_arguments(env_id) if given else {}
    return sorted(
        key for key in given if key not in defaults or not np.array_equal(defaults[key], arguments[key])
    )


def _changing_wrappers(wrappers: Any) -> list[str]:
    """Return the wrappers that may change the task."""
    changing = []
    for wrapper in wrappers if isinstance(wrappers, list) else [wrappers] if wrappers else []:
        entry = str(wrapper.get("entry_point") if isinstance(wrapper, dict) else wrapper)
        module, _, name = entry.partition(":")
        if name not in RECORDERS.get(module.partition(".")[0], ()):
            changing.append(entry[:80])
    return changing
