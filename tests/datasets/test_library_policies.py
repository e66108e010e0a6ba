"""Policies that Stable-Baselines3 and d3rlpy saved act here as there, or are refused; nothing is run."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import pkgutil
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from o2obench.agent import Network
from o2obench.datasets import isolated_validation
from o2obench.datasets.policy_files import PolicyFile, read_policy_file
from o2obench.errors import UserError
from o2obench.planning.expand import read_suite
from o2obench.runs.folder import ResultsFolder
from o2obench.training.options import Options
from o2obench.training.runner import execute
from o2obench.util.files import sha256
from tests.conftest import Command
from tests.planning.test_pretraining import DATA, suite

sb3 = pytest.importorskip("stable_baselines3")
LOW, HIGH = np.array([-0.5, -3.0], np.float32), np.array([1.0, 2.0], np.float32)
OBS = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
RELU, TANH = {"activation_fn": torch.nn.ReLU}, {"activation_fn": torch.nn.Tanh}


class World(gym.Env[Any, Any]):
    """As many observations and actions as the toy data have; bounds of actions that are not 1."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)
    action_space: gym.Space[Any] = gym.spaces.Box(LOW, HIGH)

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return np.ones(4), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.ones(4), 0.0, False, False, {}


class DiscreteWorld(World):
    action_space = gym.spaces.Discrete(2)


def saved(name: str, file: Path, env: Any = None, options: Any = None, **more: Any) -> Any:
    """Save a policy of Stable-Baselines3 with drawn weights; return the model."""
    clipped = name in ("PPO", "A2C")
    more |= {"seed": 0} if clipped else {"seed": 0, "buffer_size": 10}
    model = getattr(sb3, name)("MlpPolicy", env or World(), policy_kwargs=options, device="cpu", **more)
    draw = np.random.default_rng(1)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            noise = draw.normal(0.0, 0.4 if clipped else 0.1, parameter.shape)
            parameter += torch.as_tensor(noise, dtype=torch.float32)
    model.save(file)
    return model


def saved_by_d3rlpy(name: str, file: Path, **options: Any) -> Any:
    """Save a new algorithm of d3rlpy; return it."""
    d3rlpy = pytest.importorskip("d3rlpy")
    algorithm = getattr(d3rlpy.algos, f"{name}Config")(**options).create(device="cpu")
    algorithm.create_impl((4,), 2)
    (algorithm.save if file.suffix == ".d3" else algorithm.save_model)(str(file))
    return algorithm


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Return a file that is read, to be spoilt."""
    saved("SAC", tmp_path / "policy.zip")
    return tmp_path / "policy.zip"


def actions(policy: PolicyFile) -> Any:
    policy.require_shape(4, 2, DATA)
    return policy.network().act(OBS[None])[0]


# ---- they act as in their library -----------------------------------------------------------------------


def test_between_layers_stands_what_the_network_says() -> None:
    layers = [(np.eye(2)[None], np.zeros((1, 2)))] * 2
    obs = np.array([[[-0.5, 0.25]]])
    relu, tanh = (Network(layers, activation, "none").act(obs)[0, 0] for activation in ("relu", "tanh"))
    np.testing.assert_allclose(relu, [0.0, 0.25], rtol=1e-6)
    np.testing.assert_allclose(tanh, np.tanh([-0.5, 0.25]), rtol=1e-6)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("SAC", None, "relu"),
        ("SAC", {**TANH, "net_arch": [7, 5, 3]}, "tanh"),
        ("TD3", None, "relu"),
        ("TD3", {"net_arch": []}, "relu"),
        ("DDPG", TANH, "tanh"),
        ("PPO", None, "tanh"),
        ("PPO", {**RELU, "net_arch": {"pi": [16], "vf": [8, 8]}}, "relu"),
        ("A2C", None, "tanh"),
    ],
)
def test_100_observations_give_the_actions_of_stable_baselines(
    tmp_path: Path, name: str, options: Any, expected: str
) -> None:
    model = saved(name, tmp_path / "policy.zip", options=options)
    policy = read_policy_file(tmp_path / "policy.zip")
    assert policy.activation == expected
    theirs = 2 * (model.predict(OBS, deterministic=True)[0] - LOW) / (HIGH - LOW) - 1
    assert np.ptp(theirs) > 0.3
    assert (name in ("PPO", "A2C")) == (np.abs(theirs) == 1).any(), "some are cut off, if not squashed"
    np.testing.assert_allclose(actions(policy), theirs, atol=1e-5)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("kind", [".pt", ".d3"])
@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in ("BC", "DDPG", "TD3", "TD3PlusBC", "ReBRAC")]
    + [(name, {}) for name in ("SAC", "AWAC", "CQL", "CalQL", "IQL")]
    + [("BC", {"policy_type": "stochastic"})],
)
def test_100_observations_give_the_actions_of_d3rlpy(
    tmp_path: Path, name: str, options: Any, kind: str
) -> None:
    algorithm = saved_by_d3rlpy(name, tmp_path / f"policy{kind}", **options)
    theirs = algorithm.predict(OBS)
    np.testing.assert_allclose(actions(read_policy_file(tmp_path / f"policy{kind}")), theirs, atol=1e-5)


@pytest.mark.usefixtures("in_this_process")
def test_what_a_file_does_not_say_a_json_file_beside_it_does(tmp_path: Path) -> None:
    for kind in (".d3", ".pt"):
        algorithm = saved_by_d3rlpy("TD3", tmp_path / f"policy{kind}", **encoder(activation="tanh"))
        theirs = algorithm.predict(OBS)
        policy = read_policy_file(tmp_path / f"policy{kind}")
        assert policy.activation == ("tanh" if kind == ".d3" else "relu"), "a .pt holds nothing but tensors"
    (tmp_path / "policy.json").write_text('{"activation": "tanh"}')
    np.testing.assert_allclose(actions(read_policy_file(tmp_path / "policy.pt")), theirs, atol=1e-5)


# ---- runs start from them -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_starts_from_a_zip_and_goes_on_from_plain_arrays(tmp_path: Path, o2obench: Command) -> None:
    file = tmp_path / "mine" / "ppo.zip"
    file.parent.mkdir()
    saved("PPO", file)
    budget = ("--updates", "1000", "--steps", "40", "--every", "20", "--results", "results")
    done = o2obench("run", "frozen", DATA, "--from", "mine/ppo.zip", *budget)
    assert done.returncode == 0, done.stderr
    [record] = tmp_path.glob("results/*/policy_file/*/seed-0/run.json")
    config = json.loads(record.read_text())["run"]["spec"]["config"]
    [copy] = tmp_path.glob("results/policies/*.npz")
    assert config == {"sha256": sha256(copy), "activation": "tanh", "squash": "none"}
    assert copy.name == f"{sha256(copy)}.npz"
    held, original = read_policy_file(copy), read_policy_file(file)
    assert (held.content, held.activation, held.squash) == (original.content, "tanh", "none")
    file.unlink()
    [finished] = tmp_path.glob("results/*/frozen/*/seed-0/run.json")
    shutil.rmtree(finished.parent)
    again = o2obench("run", "frozen", DATA, "--from", "mine/ppo.zip", *budget)
    assert again.returncode == 0, again.stderr
    assert finished.exists(), "the copy is the same policy"


def test_entries_that_name_one_zip_read_it_once(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[Path]()

    def counted(file: Path, function: str, *arguments: str) -> list[str]:
        calls.append(file)
        lines: list[str] = pkgutil.resolve_name(function)(file, *arguments)
        return lines

    monkeypatch.setattr(isolated_validation, "in_child", counted)
    entry = "frozen: {{from: policy.zip, label: {}}}"
    suite(tmp_path, "\n  - ".join([entry.format("a"), entry.format("b")]))
    assert calls == [whole]


@pytest.mark.usefixtures("in_this_process")
def test_a_suite_names_a_zip_and_its_runs_never_open_it(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, results = suite(tmp_path, "frozen: {from: policy.zip}"), ResultsFolder(tmp_path / "results")
    assert plan.runs == suite(tmp_path, "frozen: {from: policy.zip}").runs, "the same bytes every time"
    assert [one.pretraining for one in plan.experiments] == ["policy.zip"]
    plan.write(results)
    whole.unlink()
    monkeypatch.setattr(isolated_validation, "in_child", None)
    for run in plan.runs:
        execute([run], results, Options())
        assert results.run(run.id).state() == "done"
    assert read_suite(tmp_path / "s.yaml", results=results).runs == plan.runs


# ---- nothing in them is run -----------------------------------------------------------------------------


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def torch_bytes(value: Any) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def rewritten(file: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """Change the members of a zip archive."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("kind", [".zip", "bare.zip", ".pt", ".d3"])
def test_a_malicious_pickle_is_refused_and_nothing_of_it_runs(tmp_path: Path, whole: Path, kind: str) -> None:
    trap = Trap(tmp_path / "sprung")
    trapped = torch_bytes({"actor.mu.weight": trap, "policy": trap})
    file = tmp_path / f"policy{kind[-4:] if kind == 'bare.zip' else kind}"
    if kind == ".d3":
        file.write_bytes(pickle.dumps({"torch": trap, "config": "{}", "version": "2.8.0"}))
    elif kind == ".pt":
        file.write_bytes(trapped)
    else:
        bare = pickle.dumps(trap) if kind == "bare.zip" else trapped
        rewritten(file, lambda members: members.update({"policy.pth": bare}))
    with pytest.raises(UserError, match=r"holds more than tensors|never unpickled|is no zip") as caught:
        read_policy_file(file)
    assert len(caught.value.problems) == 1
    assert not trap.folder.exists()
    torch.load(io.BytesIO(trapped), weights_only=False)  # noqa: TID251
    assert trap.folder.exists(), "it is a trap: what unpickles it springs it"


@pytest.mark.usefixtures("in_this_process")
def test_serialized_fields_are_never_decoded(tmp_path: Path, whole: Path) -> None:
    before, trap = actions(read_policy_file(whole)), Trap(tmp_path / "sprung")
    baits = [base64.b64encode(pickle.dumps(trap)).decode(), "no base64 at all: \u2603"]

    def fill(members: dict[str, bytes]) -> None:
        data = json.loads(members["data"])
        fields = [value for value in data.values() if isinstance(value, dict) and ":serialized:" in value]
        assert len(fields) > 4
        for i, value in enumerate(fields):
            value[":serialized:"] = baits[i % 2]
        members["data"] = json.dumps(data).encode()

    rewritten(whole, fill)
    np.testing.assert_array_equal(actions(read_policy_file(whole)), before)
    assert not trap.folder.exists()


# ---- what is refused ------------------------------------------------------------------------------------


def data(path: str, new: Any) -> Callable[[Path], None]:
    """Return what changes a value of ``data``: ``field`` or ``field/field``."""

    def spoil(file: Path) -> None:
        def change(members: dict[str, bytes]) -> None:
            value = inner = json.loads(members["data"])
            *before, last = path.split("/")
            for part in before:
                inner = inner[part]
            inner[last] = new
            members["data"] = json.dumps(value).encode()

        rewritten(file, change)

    return spoil


def state(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return what changes the tensors of the policy."""

    def spoil(file: Path) -> None:
        def inner(members: dict[str, bytes]) -> None:
            tensors = torch.load(io.BytesIO(members["policy.pth"]), weights_only=True)  # noqa: TID251
            change(tensors)
            members["policy.pth"] = torch_bytes(tensors)

        rewritten(file, inner)

    return spoil


def library(name: str, **options: Any) -> Callable[[Path], None]:
    """Return what saves another policy of Stable-Baselines3 in this place."""
    return lambda file: void(saved(name, file, **options))


def void(_: object) -> None:
    pass


def bomb(file: Path) -> None:
    with (
        zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("zeros", "w", force_zip64=True) as member,
    ):
        for _ in range(257):
            member.write(bytes(2**20))
    assert file.stat().st_size < 2**23


def inner_bomb(file: Path) -> None:
    bomb(file.with_name("inner"))
    content = file.with_name("inner").read_bytes()
    rewritten(file, lambda members: members.update({"policy.pth": content}))


def link(file: Path) -> None:
    about = zipfile.ZipInfo("policy.pth.link")
    about.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(about, "/etc/passwd")


def twice(file: Path) -> None:
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("policy.pth", b"")


def normalised(file: Path) -> None:
    vec = sb3.common.vec_env
    model = sb3.PPO("MlpPolicy", vec.VecNormalize(vec.DummyVecEnv([World])), n_steps=8, batch_size=8)
    model.learn(8).save(file)


def wide(tensors: dict[str, Any]) -> None:
    tensors["actor.mu.weight"] = torch.zeros(1).expand(2**20, 2**20)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no zip": (lambda file: file.write_bytes(b"no zip"), "policy.zip: is no zip archive, or is cut off"),
    "cut off": (lambda file: file.write_bytes(file.read_bytes()[:3000]), "policy.zip: is no zip archive"),
    "a flipped byte": (
        lambda file: file.write_bytes(file.read_bytes().replace(b'"verbose"', b'"Verbose"')),
        "Bad CRC-32 for file 'data'",
    ),
    "a bomb": (bomb, "more than 268,435,456; it is no policy"),
    "a bomb inside": (inner_bomb, "policy.zip: policy.pth: unpacks to"),
    "a link": (link, "policy.zip: policy.pth.link: is a link; save the policy anew"),
    "two of one name": (twice, "policy.zip: holds two members of one name"),
    "an .npz": (
        lambda file: rewritten(file, lambda members: members.clear()),
        "policy.zip: holds no data and policy.pth; save it by Stable-Baselines3's model.save",
    ),
    "discrete actions": (library("PPO", env=DiscreteWorld()), "action_space: is a <class 'gymnasium.sp"),
    "DQN": (library("DQN", env=DiscreteWorld()), "a policy of stable_baselines3.dqn.policies; known"),
    "a class of one's own": (data("policy_class/__module__", "mine"), "a policy of mine; known"),
    "gSDE": (library("SAC", use_sde=True), "policy.zip: explores by gSDE"),
    "gSDE of PPO": (library("PPO", use_sde=True), "policy.zip: explores by gSDE"),
    "VecNormalize": (normalised, "policy.zip: was trained under VecNormalize"),
    "an extractor": (
        data("policy_kwargs", {"features_extractor_class": "<class 'mine.Extractor'>"}),
        "has a feature extractor, <class 'mine.Extractor'>",
    ),
    "convolutions": (
        state(lambda tensors: tensors.update({"actor.features_extractor.cnn.0.weight": torch.zeros(1)})),
        "actor.features_extractor.cnn.0.weight: does not fit a network of linear layers",
    ),
    "PReLU": (
        library("TD3", options={"activation_fn": torch.nn.PReLU}),
        "actor.mu.1.weight: does not fit a network",
    ),
    "a second head": (
        state(lambda tensors: tensors.update({"actor.mu2.weight": torch.zeros(2, 256)})),
        "actor.mu2.weight: does not fit a network",
    ),
    "a bias gone": (
        state(lambda tensors: tensors.pop("actor.mu.bias")),
        "actor.mu.bias: does not fit a network of linear layers",
    ),
    "ELU": (
        library("SAC", options={"activation_fn": torch.nn.ELU}),
        "policy.zip: activation elu and squash tanh: known are relu or tanh",
    ),
    "NaN": (
        state(lambda tensors: tensors["actor.mu.bias"].fill_(torch.nan)),
        "policy.zip: weight_2 or bias_2: holds NaN or infinity",
    ),
    "integers": (
        state(lambda tensors: tensors.update({"actor.mu.bias": torch.zeros(2, dtype=torch.int64)})),
        "holds something else than real numbers as its layers",
    ),
    "misfit": (
        state(lambda tensors: tensors.update({"actor.mu.weight": torch.zeros(2, 255)})),
        "policy.zip: weight_2: shape (255, 2) with bias (2,) after 256",
    ),
    "a view of a zero": (state(wide), "its layers have more than 268,435,456 bytes"),
    "no tensors": (
        lambda file: rewritten(file, lambda members: members.update({"policy.pth": torch_bytes([1])})),
        "policy.zip: policy.pth: holds no tensors by name",
    ),
    "another task": (
        state(
            lambda tensors: tensors.update(
                {"actor.mu.weight": torch.zeros(3, 256), "actor.mu.bias": torch.zeros(3)}
            )
        ),
        f"policy.zip: maps 4 observations to 3 actions, {DATA} has 4 and 2; name a policy of that task",
    ),
}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("case", BAD)
def test_a_zip_that_is_no_plain_network_is_refused_in_one_line(whole: Path, case: str) -> None:
    spoil, message = BAD[case]
    spoil(whole)
    with pytest.raises((UserError, zipfile.BadZipFile)) as caught:
        read_policy_file(whole).require_shape(4, 2, DATA)
    [line] = str(caught.value).splitlines()
    print(line.replace(f"{whole.parent}/", ""))
    assert message in line


@pytest.mark.usefixtures("in_this_process")
def test_actions_without_bounds_have_no_place(tmp_path: Path) -> None:
    for low in ("[-inf -1.]", "[-1.]", "[-1. ... -1.]", "[9. 9.]"):
        saved("PPO", tmp_path / "policy.zip")
        data("action_space/low", low)(tmp_path / "policy.zip")
        with pytest.raises(UserError, match="action_space: has no finite bounds for each action; write a"):
            read_policy_file(tmp_path / "policy.zip")


def scaler(name: str) -> dict[str, Any]:
    d3rlpy = pytest.importorskip("d3rlpy")
    if name == "action_scaler":
        return {name: d3rlpy.preprocessing.MinMaxActionScaler(minimum=-np.ones(2), maximum=np.ones(2))}
    return {name: d3rlpy.preprocessing.StandardObservationScaler(mean=np.zeros(4), std=np.ones(4))}


def encoder(**options: Any) -> dict[str, Any]:
    factory = pytest.importorskip("d3rlpy").models.VectorEncoderFactory
    return {"actor_encoder_factory": factory([8], **options)}


def other_encoder() -> dict[str, Any]:
    return {"actor_encoder_factory": pytest.importorskip("d3rlpy").models.SimBaEncoderFactory()}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    ("name", "kind", "options", "message"),
    [
        ("SAC", "d3", lambda: scaler("observation_scaler"), "policy.d3: has an observation_scaler (standa"),
        ("SAC", "d3", lambda: scaler("action_scaler"), "policy.d3: has an action_scaler (min_max), w"),
        ("TD3", "d3", lambda: encoder(use_layer_norm=True), "policy.d3: weight_1: shape (8,) with bias (8,)"),
        ("TD3", "pt", lambda: encoder(use_batch_norm=True), "policy.pt: _encoder._layers.2."),
        ("TD3", "d3", lambda: encoder(last_activation="tanh"), "td3 with a vector encoder: is no policy of"),
        ("TD3", "d3", lambda: encoder(activation="gelu"), "policy.d3: activation gelu and squash tanh: "),
        ("TD3", "d3", other_encoder, "td3 with a simba encoder: is no policy of continuous actions"),
        ("TD3", "pt", other_encoder, "policy.pt: _encoder"),
        ("CRR", "pt", dict, "policy.pt: is of an algorithm that does not act by its policy's mean; BC, DDPG"),
        ("BCQ", "d3", dict, "policy.d3: is of an algorithm that does not act by its policy's mean"),
        ("BEAR", "pt", dict, "policy.pt: is of an algorithm that does not act by its policy's mean"),
        ("PLAS", "pt", dict, "policy.pt: is of an algorithm that does not act by its policy's mean"),
        ("DiscreteSAC", "pt", dict, "policy.pt: is of an algorithm that does not act by its policy's mean"),
        ("DiscreteBC", "d3", dict, "discrete_bc with a default encoder: is no policy of continuous actions"),
        ("DQN", "pt", dict, "policy.pt: holds no policy of d3rlpy; write it by save_model or save"),
    ],
)
def test_a_policy_of_d3rlpy_that_is_no_plain_network_is_refused(
    tmp_path: Path, name: str, kind: str, options: Callable[[], Any], message: str
) -> None:
    saved_by_d3rlpy(name, tmp_path / f"policy.{kind}", **options())
    with pytest.raises(UserError) as caught:
        read_policy_file(tmp_path / f"policy.{kind}")
    [line] = str(caught.value).splitlines()
    assert message in line


def limited(memory: int) -> str:
    """Return what a child does that may take so much memory."""
    module = "o2obench.datasets.isolated_validation"
    return f"import {module} as a; a.MEMORY, a.MEMORY_PER_BYTE = {memory}, 0; a.main()"


def test_a_process_of_its_own_reads_it_with_less_memory_than_torch_has_mapped(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated_validation, "CHILD", limited(2**28))
    assert read_policy_file(whole).sizes == (4, 256, 256, 2)


@pytest.mark.slow
def test_what_needs_more_memory_is_refused(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_validation, "CHILD", limited(2**18))
    with pytest.raises(
        UserError, match=r"policy\.zip: needs more than 0 GiB to read; it is not what it says"
    ):
        read_policy_file(whole)
