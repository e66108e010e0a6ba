"""Policies as plain arrays: ``policy.npz`` as ``o2obench policy`` writes it and runs start from it.

The arrays are ``weight_0`` (inputs, outputs), ``bias_0`` (outputs,), ``weight_1`` ...; a JSON file of the
same name beside them may say activation (relu) and squash (tanh or none).
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..agent import Network
from ..errors import UserError
from ..transitions import Array
from ..util.files import is_file, read_json, read_plain, sha256, write_atomically

MOST_BYTES = 2**28
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class PolicyFile:
    """A policy's file, checked: its arrays belong together and are finite."""

    file: Path
    sha256: str
    sizes: tuple[int, ...]
    activation: str
    squash: str

    def require_shape(self, obs_dim: int, act_dim: int, data: str) -> None:
        """Raise UserError where the policy is not one of this task."""
        if (self.sizes[0], self.sizes[-1]) != (obs_dim, act_dim):
            raise UserError(
                f"{self.file}: maps {self.sizes[0]} observations to {self.sizes[-1]} actions, "
                f"{data} has {obs_dim} "
                f"and {act_dim}; name a policy of that task"
            )


def read_policy_file(file: Path) -> PolicyFile:
    """Read and check a policy's file; raise UserError with what is wrong and what to do."""
    layers, digest = _layers(file), sha256(file, MOST_BYTES, follow=True)
    about = _about(file.with_suffix(".json"))
    if about.get("sha256", digest) != digest:
        raise UserError(
            f"{file.with_suffix('.json')}: belongs to another policy than {file.name}; put its own there"
        )
    activation, squash = str(about.get("activation", "relu")), str(about.get("squash", "tanh"))
    if activation not in ("relu",) or squash not in ("tanh", "none"):
        raise UserError(
            f"{file.with_suffix('.json')}: activation {activation} and squash {squash}: known are relu, and "
            "tanh or none"
        )
    sizes = (layers[0][0].shape[0], *(weight.shape[1] for weight, _ in layers))
    return PolicyFile(file, digest, sizes, activation, squash)


def find(file: Path, copies: Path | None) -> PolicyFile:
    """Read a policy's file; where it is gone, the copy of a file of this name among ``copies``."""
    if file.exists() or copies is None:
        return read_policy_file(file)
    matches = [about for about in sorted(copies.glob("*.json")) if file.name in _names(about)]
    if len(matches) > 1:
        raise UserError(f"{file}: is missing, and {copies} has {len(matches)} of this name; name one of them")
    return read_policy_file(matches[0].with_suffix(".npz") if matches else file)


def keep_copy(policy: PolicyFile, target: Path) -> None:
    """Copy a policy to ``target``, which its hash names, and how it was called; mend a corrupted copy."""
    about, names = target.with_suffix(".json"), _names(target.with_suffix(".json"))
    if not (is_file(target) and sha256(target) == policy.sha256):
        content = read_plain(policy.file, MOST_BYTES, follow=True)
        if hashlib.sha256(content).hexdigest() != policy.sha256:
            raise UserError(f"{policy.file}: has changed since it was read; start again")
        write_atomically(target, content)
    if policy.file != target and policy.file.name not in names:
        facts = {"sha256": policy.sha256, "activation": policy.activation, "squash": policy.squash}
        value = {**facts, "names": [*names, policy.file.name]}
        write_atomically(about, json.dumps(value, indent=1) + "\n")


def _names(about: Path) -> list[str]:
    """Return the names of the files that a copy was made of."""
    value = read_json(about)
    return list(map(str, value.get("names", []))) if isinstance(value, dict) else []


def load_network(file: Path, activation: str, squash: str) -> Network:
    """Return the policy in a file, for one seed: weights (1, inputs, outputs), biases (1, outputs)."""
    return Network([(weight[None], bias[None]) for weight, bias in _layers(file)], activation, squash)


def _about(file: Path) -> dict[str, Any]:
    """Return what the JSON file beside a policy says; nothing where there is none."""
    about = read_json(file, follow=True)
    if about is None and not file.exists():
        return {}
    if not isinstance(about, dict):
        raise UserError(f"{file}: is corrupted; write it anew by `o2obench policy`, or remove it")
    return about


def _layers(file: Path) -> list[tuple[Array, Array]]:
    """Return weight and bias of each layer, float32; raise UserError where they do not belong together."""
    arrays = _arrays(file)
    count = len(arrays) // 2
    names = {f"{kind}_{i}" for i in range(count) for kind in ("weight", "bias")}
    if not count or arrays.keys() != names:
        raise UserError(
            f"{file}: holds {', '.join(sorted(arrays)) or 'nothing'}; expected weight_0, bias_0, ..."
        )
    layers = [(arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(count)]
    before = layers[0][0].shape[0] if layers[0][0].ndim == 2 else -1
    for i, (weight, bias) in enumerate(layers):
        if weight.ndim != 2 or bias.shape != weight.shape[1:] or weight.shape[0] != before:
            raise UserError(
                f"{file}: weight_{i}: shape {weight.shape} with bias {bias.shape} after {before}; expected "
                "(inputs, outputs) and (outputs,), the inputs being the outputs before"
            )
        if weight.dtype.kind not in "fiu" or bias.dtype.kind not in "fiu":
            raise UserError(f"{file}: weight_{i} or bias_{i}: holds no real numbers; write the policy anew")
        if not all(np.isfinite(part).all() and np.abs(part).max(initial=0) <= LARGEST for part in layers[i]):
            raise UserError(
                f"{file}: weight_{i} or bias_{i}: holds NaN or infinity (float32); write the policy anew"
            )
        before = weight.shape[1]
    return [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers]


def _arrays(file: Path) -> dict[str, Array]:
    try:
        content = read_plain(file, MOST_BYTES, follow=True)
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read: {error.strerror or error}; name a policy.npz (the policies/ of "
            "a results folder hold a copy of each that was used)"
        ) from None
    except Exception:  # noqa: BLE001  (numpy, zipfile and zlib each have their own)
        raise UserError(
            f"{file}: is not an .npz file of plain arrays; write it by `o2obench policy`"
        ) from None
