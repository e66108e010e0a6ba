"""Environments of one's own: modules and rules of termination that the command line names."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..agent import Terminal
from ..errors import UserError
from ..util import own_modules
from .termination import from_data

if TYPE_CHECKING:
    from .spec import EnvSpec

TERMINAL = "--terminal"
_rule: dict[str, str] = {}


def take_own(imports: Iterable[str], terminal: str = "") -> None:
    """Import modules, and let ``MODULE:FUNCTION`` of one be the rule of environments that have none."""
    own_modules.import_own(imports)
    if terminal:
        _rule.update(_function(terminal)[1])


def own_arguments() -> list[str]:
    """Return the arguments that make another process of ours take the same."""
    return [*own_modules.arguments(), *((TERMINAL, _rule["function"]) if _rule else ())]


def take_own_of(arguments: Sequence[str]) -> None:
    """Take what another process of ours has: its ``own_arguments``."""
    given = list(zip(arguments[::2], arguments[1::2], strict=True))
    terminal = next((value for flag, value in given if flag == TERMINAL), "")
    take_own([value for flag, value in given if flag == own_modules.IMPORT], terminal)


def own_rule() -> dict[str, str]:
    """Return the function that the command line names for environments without a rule, and its hash."""
    return dict(_rule)


def with_rule(spec: EnvSpec, rule: Any) -> EnvSpec:
    """Return an environment with a user's own termination rule: as data, or a function by name and hash.

    Raises:
        UserError: It has one of its own, the rule is none, or the command line does not name the function.
    """
    if spec.rule == rule:
        return spec
    if spec.terminal is not None and spec.rule is None:
        raise UserError(f"{spec.id} has a termination rule of its own; leave `terminal` out")
    if not (isinstance(rule, dict) and rule.keys() == {"function", "sha256"}):
        return replace(spec, terminal=from_data(rule, spec.obs_dim, spec.act_dim), rule=rule)
    if _rule.get("function") != rule["function"]:
        module = str(rule["function"]).partition(":")[0]
        raise UserError(
            f"{spec.id}: {rule['function']} says when it ends; name it again with --import {module} "
            f"--terminal {rule['function']}"
        )
    if _rule != rule:
        raise UserError(
            f"{spec.id}: {rule['function']} has changed since it was planned; plan the suite anew"
        )
    return replace(spec, terminal=_function(rule["function"])[0], rule=rule)


def _function(name: str) -> tuple[Terminal, dict[str, str]]:
    """Return a function of a module of one's own, and its name with the hash of its source."""
    module, _, function = name.partition(":")
    terminal = getattr(own_modules.imported(module), function, None)
    if not inspect.isfunction(terminal):
        raise UserError(f"--terminal {name}: {module} has no function {function!r}; write MODULE:FUNCTION")
    digest = hashlib.sha256(inspect.getsource(terminal).encode()).hexdigest()
    return terminal, {"function": name, "sha256": digest}
