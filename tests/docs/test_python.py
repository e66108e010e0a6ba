"""docs/python.md, run as a reader would run it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import o2obench

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.mark.slow
def test_the_page_of_the_python_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    first, *others = blocks()
    exec(first, names)
    curves: pd.DataFrame = names["curves"]
    assert curves.attrs["problems"] == []
    assert set(curves.method) == {"naive", "comou", "frozen"}
    ends = curves[(curves.phase == "online") & (curves.env_steps == 100)]
    assert len(ends) == 3
    for block in others:
        exec(block, names)
    assert names["curves"].equals(curves)
    assert set(names["runs"].state) == {"done"}
    agent = names["agent"]
    assert isinstance(agent, o2obench.Agent)
    own = o2obench.make_agent("naive", "pointmass-mixed-v0", options=names["online"], offline_updates=200)
    assert not (own.act(names["obs"], explore=False) == agent.act(names["obs"], explore=False)).all()
    assert "(5000, 4)" in capsys.readouterr().out


def test_every_public_function_stands_on_the_page() -> None:
    functions = [name for name in o2obench.__all__ if name.islower()]
    assert functions == ["check_agent", "load_dataset", "load_results", "make_agent", "run_suite"]
    for name in functions:
        assert f"o2obench.{name}(" in "".join(blocks())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: o2obench.run_suite("quik"), "suite quik: not known"),
        (lambda: o2obench.run_suite({"algorithms": ["mopo"]}, name="mine"), "mine: datasets: .*missing"),
        (
            lambda: o2obench.run_suite({"algorithms": ["policy_file"]}, name="mine"),
            "mine: policy_file: is not run by its name, it needs a file",
        ),
        (
            lambda: o2obench.run_suite("quick", memory=3),
            "memory: not all of them are options; known are device",
        ),
        (lambda: o2obench.run_suite("quick", device="gpu"), "--device gpu: has to be cpu"),
        (lambda: o2obench.load_results("nowhere"), "no suite was run here"),
        (
            lambda: o2obench.load_results("nowhere", table="scores"),
            "table scores: not known; one of curves, runs",
        ),
        (lambda: o2obench.load_dataset("hoper-medium-v2"), "hoper-medium-v2"),
        (lambda: o2obench.make_agent("naiv", "pointmass-mixed-v0"), "naiv"),
        (lambda: o2obench.make_agent("mopo", "pointmass-mixed-v0", options={"beta": 1}), "beta"),
        (
            lambda: o2obench.make_agent(
                "mopo", "pointmass-mixed-v0", options={"model_hidden_dims": [32, 32]}
            ),
            "model_weight_decay: 5 numbers, the model has 3 layers",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    call: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(o2obench.UserError, match=message) as refused:
        call()
    assert len(str(refused.value).splitlines()) == 1
    assert not any(tmp_path.iterdir())
