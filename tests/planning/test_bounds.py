"""Values that nobody can mean are refused where they stand, before anything is made of their size."""

from __future__ import annotations

import inspect
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from o2obench import registry
from o2obench.cli.options import seeds_of
from o2obench.errors import UserError
from o2obench.launch.flags import LaunchFlags
from o2obench.launch.profile import read_profile
from o2obench.planning.expand import read_suite
from o2obench.planning.load import read_layers
from o2obench.planning.schema import Selection
from o2obench.training.options import Options
from o2obench.util.config import Located, parse_scalar, read_yaml, validate
from tests.conftest import Command

TAGS = ("!!binary xx", "!!bool maybe", "!!int 1", "!!float x", "!!timestamp x", "!!set {b}", "!!str 1", "! x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *((tag, "1:4: not valid YAML: tags (") for tag in TAGS),
        ("9" * 5000, "1:4: not valid YAML: a number of 5,000 characters"),
        ("0." + "3" * 5000, "1:4: not valid YAML: a number of 5,002 characters"),
        ("1e999", "1:4: not valid YAML: the number is too large"),
        ("[" * 3000, "nested too deeply"),
    ],
)
def test_yaml_names_the_place_of_what_it_refuses(tmp_path: Path, value: str, message: str) -> None:
    file = tmp_path / "v.yaml"
    file.write_text(f"a: {value}\n")
    with pytest.raises(UserError) as refused:
        read_yaml(file)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("text", ["9" * 5000, "!!bool maybe", "!!timestamp x", "1e999", "[" * 3000, "*a"])
def test_an_option_of_the_command_line_that_is_no_value_is_a_word(text: str) -> None:
    assert parse_scalar(text) == text


def test_a_file_of_another_kind_or_size_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * 2**21)
    (tmp_path / "link.yaml").symlink_to(tmp_path / "good.yaml")
    (tmp_path / "good.yaml").write_text("a: 1\n")
    assert read_yaml(tmp_path / "link.yaml").value == {"a": 1}
    for name, message in (("pipe", "is a pipe, not a file"), ("large", "has 2,097,152 bytes")):
        with pytest.raises(UserError, match=message):
            read_yaml(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ("../secret", "is not a suite's name; it has no folder"),
        ("/etc/passwd", "is not a suite's name; it has no folder"),
        (".hidden", "is not a suite's name"),
        ("a", "a is like this file in turn"),
        ("b", "a is like this file in turn"),
        ("[]", "expected a suite's name, or a list of names"),
        ("[quick, [b]]", "expected a suite's name, or a list of names"),
        ("listed", "listed.yaml:1:1: expected keys of a suite"),
    ],
)
def test_like_names_a_suite_beside_the_file_and_ends(tmp_path: Path, like: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(f"like: {like}\n")
    (tmp_path / "b.yaml").write_text("like: a\n")
    (tmp_path / "listed.yaml").write_text("[1]\n")
    with pytest.raises(UserError) as refused:
        read_layers(tmp_path / "a.yaml")
    assert message in str(refused.value)
    assert ":1:" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("like: other", "like: mine is like other in turn"),
        ("like: mine", "like: mine is like mine in turn"),
        ("like: [sac]", "like: expected an algorithm's name"),
        ("[1]", "mine.yaml:1:1: expected `default"),
        ("datasets: [1]", "mine.yaml:1:1: expected `default"),
        ("dataset: {}", "mine.yaml:1:1: expected `default"),
    ],
)
def test_the_rows_of_an_algorithm_are_like_anothers_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text(text)
    (tmp_path / "configs" / "other.yaml").write_text("like: mine")
    agent = registry.algorithm("sac")
    monkeypatch.setattr(registry, "algorithm", lambda name: agent)
    monkeypatch.setattr(inspect, "getsourcefile", lambda agent: str(tmp_path / "mine.py"))
    with pytest.raises(UserError) as refused:
        registry.options_file(agent, "mine")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "text", ["3000000000", "0-2000", "4294967296,", "٣", "1_0", "9" * 5000, "-3", "1-2-3", ","]
)
def test_seeds_that_cannot_be_meant_are_refused_at_once(text: str) -> None:
    with pytest.raises(UserError, match=r"^--seeds ") as refused:
        seeds_of(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("wrong", ["seeds: [-1]", "seeds: [4294967296]", "algorithms: [frozen: null]"])
def test_one_mistake_is_one_line(tmp_path: Path, wrong: str) -> None:
    good = {"algorithms": "[frozen]", "datasets": "[pointmass-mixed-v0]", "seeds": "[1]"}
    key, _, value = wrong.partition(": ")
    text = "".join(f"{name}: {of}\n" for name, of in (good | {key: value}).items())
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        read_suite(tmp_path / "s.yaml", Selection())
    assert len(refused.value.problems) == 1
    assert key in refused.value.problems[0]


@pytest.mark.parametrize("text", ["²", "٣", "9" * 5000])
def test_digits_of_other_scripts_are_no_numbers_of_a_launch(text: str) -> None:
    assert LaunchFlags(seed_batch=text, time=text).values() == {"seed_batch": text, "time": text}


def test_a_name_of_many_braces_is_refused_and_a_line_break_makes_no_second_line(
    tmp_path: Path, o2obench: Command
) -> None:
    for name, told in (("{a,b}" * 2000, "over 100,000 data sets"), ("a\\nb", "dataset a\\nb: not known")):
        file = tmp_path / "s.yaml"
        file.write_text(f'algorithms: [frozen]\ndatasets: ["{name}"]\n')
        refused = o2obench("suite", file, "--dry-run")
        assert refused.returncode == 2
        assert told in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_a_plans_own_command_can_be_given_again(tmp_path: Path) -> None:
    assert [seeds_of(text) for text in ("3,", "3", "5-7", "0, 2")] == [(3,), (0, 1, 2), (5, 6, 7), (0, 2)]
    file = tmp_path / "my suite (1).yaml"
    file.write_text("algorithms: [toy_offline, toy_tune]\ndatasets: [pointmass-mixed-v0]\nseeds: 5\n")
    selection = Selection(seeds=(3,), datasets=("pointmass-mixed-v0",), algorithms=("toy_tune",))
    program, command, suite, *flags = shlex.split(read_suite(file, selection).command)
    assert (program, command, suite) == ("o2obench", "suite", str(file))
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    assert seeds_of(given["--seeds"]) == (3,)
    assert shlex.split(Selection(datasets=("file:/a b/$(id).hdf5",)).flags())[1] == "file:/a b/$(id).hdf5"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("local", {"jobs": 10**9}),
        ("local", {"per_gpu": 10**9}),
        ("local", {"stall_minutes": float("inf")}),
        ("slurm", {"parallel": 10**9}),
        ("slurm", {"memory_gb": 1e300}),
        ("slurm", {"time": "٢:00:00"}),
        ("slurm", {"time": "9999-00:00:00"}),
        ("slurm", {"time": 10**12}),
    ],
)
def test_amounts_of_a_profile_have_bounds(name: str, given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(given)).replace('_', '-')}: "):
        read_profile(name, given)


@pytest.mark.parametrize(
    "given", [{"threads": 10**9}, {"threads": 0}, {"checkpoint_seconds": float("nan")}, {"device": "cuda:٣"}]
)
def test_options_of_a_machine_have_bounds(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(given)).replace('_', '-')} "):
        Options(**given)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("sac", "hidden_dims", [10**6, 10**6]),
        ("sac", "hidden_dims", [256] * 1000),
        ("mopo", "num_ensemble", 10**6),
        ("rlpd", "num_critics", 10**6),
        ("mopo", "rollout_batch_size", 10**12),
        ("sac", "batch_size", 10**12),
    ],
)
def test_networks_have_bounds(name: str, option: str, value: Any) -> None:
    agent = registry.algorithm(name)
    with pytest.raises(UserError, match=f"{option}.*at most|{option}.*less than or equal"):
        validate(agent.Config, Located({option: value}), (name,))
