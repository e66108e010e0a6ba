"""Policies that Stable-Baselines3 (2.x) and d3rlpy (2.x) saved, converted to the layout of ``policy_files``.

Read are ``model.zip`` of SAC, TD3, DDPG, PPO and A2C, ``model.pt`` as d3rlpy's ``save_model`` writes it and
``model.d3`` as its ``save`` does, where the policy is a plain network: linear layers, one activation, tanh or
nothing at the end. Anything else is refused, since it would act otherwise than its library does.

This is the one place that opens torch files: tensors only (``weights_only``), in the process of its own
that ``isolated_validation`` starts; nothing else imports this module. What these libraries pickle besides
stays closed.
"""

from __future__ import annotations

import io
import json
import pickletools
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..agent import Network
from ..errors import UserError
from ..transitions import Array
from ..util.files import read_plain
from .policy_files import MOST_BYTES, to_npz

State = Mapping[str, Any]
"""Tensors by name, as a torch module gives them out."""


@dataclass(frozen=True)
class Layout:
    """Where a state keeps a policy's linear layers: a body numbered 0, 2, 4 ..., and the layer after it.

    What begins with one of ``others`` has no part in the mean action.
    """

    prefix: str
    body: str
    head: str
    others: tuple[str, ...]
    activation: str
    squash: str


STABLE_BASELINES = {
    "stable_baselines3.sac.policies": Layout("actor.", "latent_pi", "mu", ("log_std.",), "relu", "tanh"),
    "stable_baselines3.td3.policies": Layout("actor.", "mu", "", (), "relu", "tanh"),
    "stable_baselines3.common.policies": Layout(
        "",
        "mlp_extractor.policy_net",
        "action_net",
        ("log_std", "mlp_extractor.value_net.", "value_net."),
        "tanh",
        "none",
    ),
}
"""By the module of ``policy_class``, with the activations that are Stable-Baselines3's defaults."""
ACTIVATION = "<class 'torch.nn.modules.activation."
FLATTEN = "<class 'stable_baselines3.common.torch_layers.FlattenExtractor'>"
LITERALS = {"PROTO", "FRAME", "EMPTY_DICT", "MARK", "MEMOIZE", "SETITEMS", "STOP"}
LITERALS |= {"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
"""All that a pickle of a dict of texts and bytes consists of; none of these names or calls anything."""


def convert(file: Path, out: str) -> list[str]:
    """Write the policy in a file to ``out`` as .npz; return its activation and its squash.

    Raises:
        UserError: The file holds no policy of these libraries, or one that is no plain network.
    """
    content = read_plain(file, MOST_BYTES, follow=True)
    readers = {".zip": _stable_baselines, ".pt": _d3rlpy_model, ".d3": _d3rlpy_learnable}
    network = readers[file.suffix](str(file), content)
    Path(out).write_bytes(to_npz(network))
    return [network.activation, network.squash]


# ---- Stable-Baselines3 --------------------------------------------------------------------------------


def _stable_baselines(file: str, content: bytes) -> Network:
    """Read the tensors of the policy, and ``data`` as JSON; its ``:serialized:`` fields are never decoded."""
    archive = _archive(file, content)
    if not {"data", "policy.pth"} <= set(archive.namelist()):
        raise UserError(f"{file}: holds no data and policy.pth; save it by Stable-Baselines3's model.save")
    data = json.loads(archive.read("data"))
    module = data["policy_class"]["__module__"]
    layout = STABLE_BASELINES.get(module)
    if layout is None:
        raise UserError(f"{file}: a policy of {module}; known are those of SAC, TD3, DDPG, PPO and A2C")
    options = data["policy_kwargs"]
    if data.get("use_sde") or options.get("use_sde"):
        raise UserError(f"{file}: explores by gSDE, which changes the policy's mean; train it without")
    if options.get("features_extractor_class", FLATTEN) != FLATTEN:
        raise UserError(
            f"{file}: has a feature extractor, {options['features_extractor_class']}; only a policy that "
            "takes plain observations is read"
        )
    for name in ("observation_space", "action_space"):
        space = data[name]
        if not space[":type:"].endswith(".box.Box'>") or len(space["_shape"]) != 1:
            raise UserError(f"{file}: {name}: is a {space[':type:']}; only vectors (Box) are read")
    layers = _layers(file, _tensors(f"{file}: policy.pth", archive.read("policy.pth")), layout)
    activation = options.get("activation_fn", layout.activation)
    activation = activation.removeprefix(ACTIVATION).removesuffix("'>").lower()
    if layout.squash == "none":
        if data.get("_last_original_obs") is not None:  # PPO and A2C have it under VecNormalize only
            raise UserError(
                f"{file}: was trained under VecNormalize, whose means are not in the file; fold them into "
                "the first layer and write a policy.npz"
            )
        layers[-1] = _in_unit_range(file, layers[-1], data["action_space"])
    return Network(layers, activation, layout.squash)


def _in_unit_range(file: str, layer: tuple[Array, Array], space: Mapping[str, str]) -> tuple[Array, Array]:
    """Return a last layer whose outputs lie in [-1, 1] where the given one's lie in the bounds of a space.

    ``data`` holds the bounds as printed arrays. The environment's bounds are -1 and 1 of our actions.
    """
    weight, bias = layer
    try:
        low, high = (np.array(space[name].strip("[]").split(), np.float64) for name in ("low", "high"))
    except ValueError:  # printed with dots between
        low = high = np.full(bias.shape[1:], np.nan)
    if not (
        low.shape == high.shape == bias.shape[1:] and np.isfinite([low, high]).all() and (low < high).all()
    ):
        raise UserError(f"{file}: action_space: has no finite bounds for each action; write a policy.npz")
    slope = 2.0 / (high - low)
    return (weight * slope).astype(np.float32), ((bias - low) * slope - 1.0).astype(np.float32)


# ---- d3rlpy -------------------------------------------------------------------------------------------


def _d3rlpy_model(file: str, content: bytes, activation: str = "relu") -> Network:
    """Read the policy out of the states of an algorithm's modules; behaviour cloning has an imitator.

    Three kinds of algorithms act by the mean of the policy: those with a Gaussian and no target policy (SAC,
    CQL, IQL, AWAC), with a deterministic one and a target policy (TD3 and its kin), and behaviour cloning.
    """
    parts = _tensors(file, content)
    state = parts.get("policy", parts.get("imitator"))
    if not isinstance(state, Mapping):
        raise UserError(f"{file}: holds no policy of d3rlpy; write it by save_model or save")
    deterministic = "_fc.weight" in state
    if "vae_encoder" in parts or ("policy" in parts and deterministic != ("targ_policy" in parts)):
        raise UserError(
            f"{file}: is of an algorithm that does not act by its policy's mean; BC, DDPG, TD3, TD3+BC, "
            "ReBRAC, SAC, AWAC, CQL, Cal-QL and IQL do"
        )
    head = "_fc" if deterministic else "_mu"
    layout = Layout("", "_encoder._layers", head, ("_logstd",), activation, "tanh")
    return Network(_layers(file, state, layout), activation, layout.squash)


def _d3rlpy_learnable(file: str, content: bytes) -> Network:
    """Read a pickled dict of texts and bytes by its opcodes, none of which is carried out."""
    literals = list[str | bytes]()
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name not in LITERALS:
            raise UserError(
                f"{file}: holds objects ({opcode.name}), which are never unpickled; use save_model"
            )
        if isinstance(argument, str | bytes):
            literals.append(argument)
    held = dict(zip(literals[::2], literals[1::2], strict=False))
    model = held.get("torch")
    if not isinstance(model, bytes) or "config" not in held:
        raise UserError(f"{file}: holds no algorithm of d3rlpy; write it by save")
    config = json.loads(held["config"])["config"]
    options = config["params"]
    for name in ("observation_scaler", "action_scaler"):
        if options[name]["type"] != "none":
            raise UserError(
                f"{file}: has an {name} ({options[name]['type']}), which is no part of the policy's layers; "
                "train without it, or write a policy.npz with it folded in"
            )
    encoder = options.get("actor_encoder_factory") or options["encoder_factory"]
    last = encoder["params"].get("exclude_last_activation") or encoder["params"].get("last_activation")
    if config["type"].startswith("discrete") or encoder["type"] not in ("default", "vector") or last:
        raise UserError(
            f"{file}: {config['type']} with a {encoder['type']} encoder: is no policy of continuous actions "
            "with one activation; write a policy.npz"
        )
    return _d3rlpy_model(file, model, encoder["params"]["activation"])


# ---- both ---------------------------------------------------------------------------------------------


def _archive(name: str, content: bytes) -> zipfile.ZipFile:
    """Open a zip archive of plain members that are not too large when unpacked."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile:
        raise UserError(f"{name}: is no zip archive, or is cut off; save the policy anew") from None
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > MOST_BYTES:
        raise UserError(f"{name}: unpacks to {size:,} bytes, more than {MOST_BYTES:,}; it is no policy")
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise UserError(f"{name}: {member.filename}: is a link; save the policy anew")
    if len(set(archive.namelist())) < len(members):
        raise UserError(f"{name}: holds two members of one name; save the policy anew")
    return archive


def _tensors(name: str, content: bytes) -> dict[str, Any]:
    """Return what a torch file holds, if that is a dict of tensors, numbers, texts and such dicts."""
    _archive(name, content)  # neither torch's older formats, which are bare pickles, nor a bomb
    try:
        held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)  # noqa: TID251
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (torch and its unpickler have their own; their advice is to unpickle)
        raise UserError(f"{name}: holds more than tensors, or is corrupted; nothing else is read") from None
    if not isinstance(held, dict):
        raise UserError(f"{name}: holds no tensors by name; save the policy anew")
    return held


def _layers(file: str, state: State, layout: Layout) -> list[tuple[Array, Array]]:
    """Return weight (1, inputs, outputs) and bias (1, outputs) of each layer of a policy."""
    own = {
        name.removeprefix(layout.prefix): tensor
        for name, tensor in state.items()
        if name.startswith(layout.prefix) and not name.removeprefix(layout.prefix).startswith(layout.others)
    }
    names = list[str]()
    while f"{layout.body}.{2 * len(names)}.weight" in own:
        names.append(f"{layout.body}.{2 * len(names)}")
    names += [layout.head] if layout.head else []
    expected = [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]
    odd = sorted(own.keys() ^ set(expected))
    if odd or not names:
        raise UserError(
            f"{file}: {layout.prefix}{odd[0] if odd else layout.body}: does not fit a network of linear "
            "layers with biases and one activation (no convolutions, norms, extractors, second heads)"
        )
    tensors = [own[name] for name in expected]
    if not all(isinstance(tensor, torch.Tensor) and tensor.is_floating_point() for tensor in tensors):
        raise UserError(f"{file}: holds something else than real numbers as its layers; save the policy anew")
    if sum(tensor.numel() for tensor in tensors) * 4 > MOST_BYTES:  # by their shapes: a view has few bytes
        raise UserError(f"{file}: its layers have more than {MOST_BYTES:,} bytes; it is no policy")
    arrays = [np.ascontiguousarray(tensor.detach().to(torch.float32).numpy().T)[None] for tensor in tensors]
    return list(zip(arrays[::2], arrays[1::2], strict=True))
