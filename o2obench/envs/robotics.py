"""gymnasium-robotics, the extra ``robotics``: its environments by the ids that it registers."""

from __future__ import annotations

import contextlib
import io

from ..errors import UserError


def register(env_id: str) -> None:
    """Let Gymnasium know the environments of gymnasium-robotics; raise UserError where it is not installed.

    ``env_id`` is what needs them, for the message.
    """
    import gymnasium

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it warns of its hands when it is imported
            import gymnasium_robotics
    except ImportError:
        raise UserError(
            f"{env_id}: gymnasium-robotics is not installed; pip install 'o2obench[robotics]'"
        ) from None
    gymnasium.register_envs(gymnasium_robotics)
