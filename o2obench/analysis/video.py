"""A finished run's policy at work, as a GIF: the episodes of the evaluation at the online start, drawn."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..agent import Agent, new_player
from ..datasets.reference_scores import known_reference, reference_of
from ..envs.rendering import with_pictures
from ..envs.spec import EnvSpec, find_env
from ..errors import UserError
from ..runs.spec import film_name
from ..transitions import Array
from ..util.files import write_atomically
from ..util.rng import Stream, derive
from .policy import load

FRAMES_PER_SECOND = 25
"""Faster tasks show every second, third ... step."""
WIDTH = 10
"""Actions are computed in batches as wide as an evaluation's, which gives the same episodes."""
PIXELS = 240
"""Larger pictures are made smaller."""
PAUSE = 600
"""Milliseconds for which the last picture of an episode stays."""


@dataclass(frozen=True)
class Film:
    """An episode: its pictures (height, width, 3), milliseconds for each, its outcome, its steps."""

    pictures: Sequence[Array]
    milliseconds: Sequence[int]
    env_return: float
    steps: int


def render(folder: Path, episodes: int = 1, out: Path | None = None, seed: int | None = None) -> list[str]:
    """Draw the policy of a finished run into a GIF and say what it shows: return and score of each episode.

    Args:
        folder: The run's folder.
        episodes: How many; episode i starts where the i-th of the evaluation at the online start does.
        out: The GIF; default: named after the run, in the working folder.
        seed: Whose start states; default: the run's own.

    Raises:
        UserError: There is no such run, the file cannot be written, or the task cannot be drawn here.
    """
    if out is not None:
        _require_writable(out)
    run, agent, _ = load(folder)
    file = out or Path(film_name(run.id))
    spec = find_env(run.spec.environment)
    env = with_pictures(spec)
    films = [_film(env, spec, agent, run.seed if seed is None else seed, i) for i in range(episodes)]
    if hasattr(env, "close"):
        env.close()
    write_atomically(file, _gif(films))
    refs = known_reference(run.dataset) or reference_of(spec.id)
    lines = []
    for i, film in enumerate(films):
        score = f"score {refs.score(film.env_return):.1f}" if refs else "no score: no reference is known"
        lines.append(f"episode {i}: return {film.env_return:.2f}, {score}, {film.steps:,} steps")
    return [*lines, f"picture: {file}"]


def _require_writable(file: Path) -> None:
    if file.suffix != ".gif":
        raise UserError(f"{file}: a moving picture ends in .gif")
    if not file.parent.is_dir() or file.is_dir():
        raise UserError(
            f"{file}: its folder is missing, or it is a folder; name a file in a folder that is there"
        )


def _film(env: Any, spec: EnvSpec, agent: Agent[Any], seed: int, episode: int) -> Film:
    """Live through an episode of the evaluation at the online start, and draw it."""
    rate = float(env.metadata.get("render_fps", FRAMES_PER_SECOND))
    every = max(1, round(rate / FRAMES_PER_SECOND))
    obs, _ = env.reset(seed=derive(seed, Stream.EVALUATION, Stream.AT_ONLINE_START, episode))
    pictures, env_return, steps, ended = [np.asarray(env.render())], 0.0, 0, False
    batch, heard = np.zeros((1, WIDTH, spec.obs_dim), np.float32), np.zeros((1, WIDTH), np.float32)
    player = new_player(agent)
    act = player or functools.partial(agent.act, explore=False)
    while not ended:
        batch[0, episode % WIDTH] = obs
        action = act(batch)[0, episode % WIDTH]
        obs, reward, terminated, truncated, _ = env.step(spec.from_unit(action))
        if player:
            heard[0, episode % WIDTH] = reward
            player.observe(heard)
        env_return, steps, ended = env_return + float(reward), steps + 1, terminated or truncated
        if ended or steps % every == 0:
            pictures.append(np.asarray(env.render()))
    pause = round(1000 * every / rate / 10) * 10  # a GIF counts in hundredths of a second
    outcome = float(spec.outcome(env_return, terminated))
    return Film(pictures, [*[pause] * (len(pictures) - 1), PAUSE], outcome, steps)


def _gif(films: Sequence[Film]) -> bytes:
    """Return the films one after another as a GIF."""
    from PIL import Image

    first, *rest = [Image.fromarray(picture) for film in films for picture in film.pictures]
    for picture in (first, *rest):
        picture.thumbnail((PIXELS, PIXELS))
    content = io.BytesIO()
    times = [time for film in films for time in film.milliseconds]
    first.save(content, "GIF", save_all=True, append_images=rest, duration=times, loop=0)
    return content.getvalue()
