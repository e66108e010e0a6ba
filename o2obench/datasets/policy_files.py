"""Policies as plain arrays: ``policy.npz`` as ``o2obench policy`` writes it and runs start from it.

The arrays are ``weight_0`` (inputs, outputs), ``bias_0`` (outputs,), ``weight_1`` ...; a JSON file of the
same name beside them may say activation (relu or tanh) and squash (tanh or none). What other libraries saved
(``library_policies``) is converted to such arrays when it is read; no run ever opens it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..agent import ACTIVATIONS, Network
from ..errors import UserError
from ..transitions import Array
from ..util.files import is_file, read_json, read_plain, sha256, write_atomically
from . import isolated_validation

MOST_BYTES = 2**28
OTHERS = (".zip", ".pt", ".d3")
"""The files of other libraries: Stable-Baselines3's, and two of d3rlpy's."""
KINDS = (".npz", *OTHERS)
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class PolicyFile:
    """A policy's file, checked: its arrays belong together and are finite.

    ``content`` is the .npz itself, converted where the file is another library's, and ``sha256`` its hash.
    """

    file: Path
    content: bytes = field(repr=False)
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

    def network(self) -> Network:
        """Return the policy, for one seed: weights (1, inputs, outputs), biases (1, outputs)."""
        return _network(self.file, self.content, self.activation, self.squash)


def read_policy_file(file: Path) -> PolicyFile:
    """Read and check a policy's file; raise UserError with what is wrong and what to do."""
    content, beside = _content(file), file.with_suffix(".json")
    about = _about(beside)
    if about.get("sha256", _digest(content)) != _digest(content):
        raise UserError(f"{beside}: belongs to another policy than {file.name}; put its own there")
    activation, squash = "relu", "tanh"
    if file.suffix in OTHERS:
        content, activation, squash = _converted(file)
    activation, squash = str(about.get("activation", activation)), str(about.get("squash", squash))
    if activation not in ACTIVATIONS or squash not in ("tanh", "none"):
        raise UserError(
            f"{beside if about else file}: activation {activation} and squash {squash}: known are "
            f"{' or '.join(ACTIVATIONS)}, and tanh or none"
        )
    layers = _layers(file, content)
    sizes = (layers[0][0].shape[0], *(weight.shape[1] for weight, _ in layers))
    return PolicyFile(file, content, _digest(content), sizes, activation, squash)


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
        write_atomically(target, policy.content)
    if policy.file != target and policy.file.name not in names:
        facts = {"sha256": policy.sha256, "activation": policy.activation, "squash": policy.squash}
        value = {**facts, "names": [*names, policy.file.name]}
        write_atomically(about, json.dumps(value, indent=1) + "\n")


def _names(about: Path) -> list[str]:
    """Return the names of the files that a copy was made of."""
    value = read_json(about)
    return list(map(str, value.get("names", []))) if isinstance(value, dict) else []


def load_network(file: Path, activation: str, squash: str) -> Network:
    """Return the policy in an .npz file, for one seed: weights (1, inputs, outputs), biases (1, outputs)."""
    return _network(file, _content(file), activation, squash)


def _network(file: Path, content: bytes, activation: str, squash: str) -> Network:
    layers = _layers(file, content)
    return Network([(weight[None], bias[None]) for weight, bias in layers], activation, squash)


def _about(file: Path) -> dict[str, Any]:
    """Return what the JSON file beside a policy says; nothing where there is none."""
    about = read_json(file, follow=True)
    if about is None and not file.exists():
        return {}
    if not isinstance(about, dict):
        raise UserError(f"{file}: is corrupted; write it anew by `o2obench policy`, or remove it")
    return about


def _layers(file: Path, content: bytes) -> list[tuple[Array, Array]]:
    """Return weight and bias of each layer, float32; raise UserError where they do not belong together."""
    arrays = _arrays(file, content)
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


def _arrays(file: Path, content: bytes) -> dict[str, Array]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except Exception:  # noqa: BLE001  (numpy, zipfile and zlib each have their own)
        raise UserError(
            f"{file}: is not an .npz file of plain arrays; write it by `o2obench policy`"
        ) from None


def _content(file: Path) -> bytes:
    try:
        return read_plain(file, MOST_BYTES, follow=True)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read: {error.strerror or error}; name a policy.npz (the policies/ of "
            "a results folder hold a copy of each that was used)"
        ) from None


def _converted(file: Path) -> tuple[bytes, str, str]:
    """Return the policy in another library's file as .npz, its activation and its squash."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "policy.npz"
        function = "o2obench.datasets.library_policies:convert"
        activation, squash = isolated_validation.in_child(file, function, str(out))
        return read_plain(out, MOST_BYTES), activation, squash


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def arrays_of(network: Network) -> dict[str, Array]:
    """Return the only seed's weights (inputs, outputs) and biases (outputs,) by name."""
    arrays = dict[str, Array]()
    for i, (weight, bias) in enumerate(network.layers):
        arrays[f"weight_{i}"], arrays[f"bias_{i}"] = weight[0], bias[0]
    return arrays


def to_npz(network: Network) -> bytes:
    """Return the policy of the only seed as the content of an .npz file, the same bytes for equal arrays."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays_of(network))
    return content.getvalue()
