"""The checks of an agent: what every algorithm must do so that its results can be compared and resumed.

``o2obench check NAME`` holds a registered algorithm against it on the toy point mass, with all counts cut to
a few, and narrow networks and batches; the project's own tests run the same checks over all its algorithms.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import registry
from ..agent import Agent, Budget, Config, Metrics, State, Task, new_player, take_seed
from ..datasets.toy import mixed_data
from ..envs.episode import Interaction
from ..envs.spec import find_env
from ..errors import Interrupted
from ..planning.expand import expand
from ..planning.plan import Plan
from ..planning.schema import Selection
from ..runs.folder import ResultsFolder, RunFolder
from ..runs.spec import Run
from ..training.build import config_of
from ..training.options import Options
from ..training.provenance import prepare
from ..training.runner import execute
from ..transitions import Array, Transitions, stack_steps
from ..util.config import Located

FEW, NARROW = 5, 32
UPDATES, STEPS = 10, 15
LIFE = 250
"""Updates of a stage that is interrupted: agents yield about every hundred."""
COPIES = 12
INTERRUPTIONS = 60
"""At most so many of a run's yields and steps are interrupted, one at least in each stage and model fit."""
ENV, DATA = "PointMass-v0", "pointmass-mixed-v0"


def check(name: str, say: Callable[[str], None]) -> bool:
    """Run every check on algorithm ``name``; say what holds and what does not; return whether all do."""
    registry.algorithm(name)
    prepare(threads=1)
    holds = True
    for test in CHECKS:
        title = (test.__doc__ or "").split("\n")[0].rstrip(".")
        try:
            found = test(name)
        except Exception as error:  # noqa: BLE001  (whatever an algorithm raises is the finding)
            holds = False
            say(f"FAILED  {title}: {type(error).__name__}: {error}")
        else:
            say(f"ok      {title}{f' ({found})' if found else ''}")
    return holds


# ---- a small training --------------------------------------------------------------------------------


def small_config(agent: type[Agent[Any]]) -> Config:
    """Return the algorithm's options with every count cut to a few, and networks to a few units."""
    return agent.Config.model_validate({**_few(agent), **_narrow(agent)})


def build(name: str, seeds: tuple[int, ...] = (0,)) -> Agent[Any]:
    """Return a new agent on the point mass, started from its pretraining where it has one."""
    agent_class = registry.algorithm(name)
    spec = find_env(ENV)
    before = agent_class.pretrain
    task = Task(
        obs_dim=spec.obs_dim,
        act_dim=spec.act_dim,
        horizon=spec.horizon,
        seeds=seeds,
        terminal=spec.terminal,
        budget=Budget(UPDATES, STEPS),
        pretraining=functools.partial(build, before, seeds) if before else None,
    )
    data = mixed_data(500)
    agent = agent_class(task, small_config(agent_class), data if agent_class.uses_data else data[:0])
    if before:
        parent = _pretrained(before, seeds)
        agent.warm_start([take_seed(parent, i) for i in range(len(seeds))])
    return agent


@functools.cache
def _pretrained(name: str, seeds: tuple[int, ...]) -> State:
    return train(build(name, seeds)).pretrained_state()


def train(agent: Agent[Any], look: Callable[[str], None] = lambda stage: None) -> Agent[Any]:
    """Let an agent go through its stages, without files; return it.

    ``look`` is called at the beginning of a stage, at each yield and after each step.
    """
    seeds = agent.task.seeds
    interactions = [Interaction(find_env(ENV), seed) for seed in seeds]
    for stage in type(agent).stages(agent.config, agent.task.budget):
        agent.begin(stage.name)
        look(stage.name)
        _work(agent, stage.name, look)
        for _ in range(stage.env_steps):
            obs = np.stack([interaction.obs for interaction in interactions])[:, None]
            actions = agent.act(obs, explore=True)[:, 0]
            steps = [
                interaction.step(action)[0] for interaction, action in zip(interactions, actions, strict=True)
            ]
            agent.observe(stack_steps(steps))
            look(stage.name)
            _work(agent, stage.name, look)
    return agent


def leaves(state: Any, place: str = "") -> dict[str, Any]:
    """Return the leaves of a state by their place."""
    if isinstance(state, dict):
        parts = [leaves(value, f"{place}/{key}") for key, value in state.items()]
        return dict(itertools.chain.from_iterable(part.items() for part in parts))
    return {place: state}


def differences(a: State, b: State) -> list[str]:
    """Return the places where two states differ in any bit."""
    left, right = leaves(a), leaves(b)
    return sorted(
        place for place in left.keys() | right.keys() if not _same(left.get(place), right.get(place))
    )


# ---- the checks -------------------------------------------------------------------------------------


def a_life_fits_the_steps_it_takes(name: str) -> None:
    """The steps that the stages take, offered alone, give the same stages: a run's identity names no more."""
    agent = registry.algorithm(name)
    config = small_config(agent)
    long = agent.stages(config, Budget(UPDATES, 1000 * STEPS))
    again = agent.stages(config, Budget(UPDATES, sum(stage.env_steps for stage in long)))
    assert long == again, f"{long} becomes {again}"


def acts_in_bounds(name: str) -> None:
    """Actions have the shape (seeds, n, act_dim), are finite and lie in [-1, 1]."""
    seeds = (0, 1) if registry.algorithm(name).seed_batches else (0,)
    agent = build(name, seeds)
    obs = _observations(len(seeds), 7)
    for explore in (False, True):
        action = agent.act(obs, explore=explore)
        assert action.shape == (len(seeds), 7, agent.task.act_dim), f"shape {action.shape}"
        assert np.isfinite(action).all(), "an action is not finite"
        assert (np.abs(action) <= 1).all(), "an action is outside [-1, 1]"


def batch_is_singles(name: str) -> None:
    """A batch of observations is evaluated as its single rows are."""
    agent = build(name)
    obs = _observations(1, 6)
    singles = np.concatenate([agent.act(obs[:, i : i + 1], explore=False) for i in range(6)], axis=1)
    assert np.allclose(agent.act(obs, explore=False), singles, atol=1e-5), "actions differ"


def updates_change_weights(name: str) -> None:
    """Planned updates happen and change what is handed over; without any, nothing changes."""
    agent = build(name)
    before, planned = agent.pretrained_state(), _planned(agent)
    after = train(agent).pretrained_state()
    weights = [place for place in differences(before, after) if place != "/updates"]
    if planned:
        assert agent.updates > 0, f"{planned} updates were planned, none was done"
    if agent.updates:  # how many there will be need not be known beforehand
        assert weights, "updates were done, but nothing that is handed over changed"
    else:
        assert not weights, f"no update was done, yet {weights[0]} changed"


def save_and_load(name: str) -> None:
    """A state loaded into a new agent is that state again, bit for bit."""
    agent = train(build(name))
    state = agent.state_dict()
    other = build(name)
    other.load_state_dict(state)
    wrong = differences(state, other.state_dict())
    assert not wrong, f"differs after a load: {', '.join(wrong[:5])}"


def a_state_is_a_copy(name: str) -> None:
    """A state that was taken, and one that was loaded, stay as they are while the agent goes on."""
    agent, taken = build(name), list[tuple[str, State, State]]()

    def take(stage: str) -> None:
        if len(taken) < COPIES:
            state = agent.state_dict()
            taken.append((stage, state, copy.deepcopy(state)))

    train(agent, take)
    for stage, state, before in taken:
        wrong = differences(state, before)
        assert not wrong, f"changed with the agent that it is of: {', '.join(wrong[:5])}"
        other = build(name)
        other.load_state_dict(state)
        _work(other, stage)
        wrong = differences(state, before)
        assert not wrong, f"changed with an agent that has loaded it: {', '.join(wrong[:5])}"


def evaluation_leaves_no_trace(name: str) -> None:
    """act(explore=False), or playing an episode where it remembers it, changes nothing in the agent."""
    agent = train(build(name))
    before, obs = agent.state_dict(), _observations(1, 5)
    first = agent.act(obs, explore=False)
    if player := new_player(agent):
        assert np.array_equal(player(obs), first), "an episode begins with another action than act's"
        for _ in range(FEW):
            player.observe(np.ones((1, 5), np.float32))
            player(obs)
    wrong = differences(before, agent.state_dict())
    assert not wrong, f"changed by an evaluation: {', '.join(wrong[:5])}"


def a_policy_can_be_evaluated_elsewhere(name: str) -> None:
    """What ``policy`` hands out, where it does, lets an agent that has seen no data act alike."""
    agent = train(build(name))
    policy = agent.policy()
    if policy is None:
        return
    other = type(agent)(agent.task, agent.config, mixed_data(1)[:0])
    other.load_policy(policy)
    obs = _observations(1, 5)
    same = np.array_equal(agent.act(obs, explore=False), other.act(obs, explore=False))
    assert same, "an agent with this policy acts differently"


def global_randomness_untouched(name: str) -> None:
    """No global random state (random, numpy, torch) is read or moved."""
    registry.algorithm(name)  # imports may do what they like
    before = _global_states()
    first = train(build(name)).pretrained_state()
    assert before == _global_states(), "a global random state was moved"
    random.seed(12345)
    np.random.seed(12345)  # noqa: NPY002  (the point of the check)
    assert not differences(first, train(build(name)).pretrained_state()), (
        "results depend on a global random state"
    )


def neighbours_do_not_matter(name: str) -> None:
    """In a seed batch, another neighbour changes no bit of a seed's state, at whichever place it stands."""
    if not registry.algorithm(name).seed_batches:
        return
    first, second, third = (train(build(name, seeds)).state_dict() for seeds in ((3, 4), (3, 5), (6, 4)))
    for place, other in ((0, second), (1, third)):
        wrong = differences(take_seed(first, place), take_seed(other, place))
        assert not wrong, f"depends on the neighbour: {', '.join(wrong[:5])}"
    assert differences(take_seed(first, 1), take_seed(second, 1)), "the seed does not matter at all"


def resume_is_straight(name: str) -> str:
    """Interrupted at every yield and step and resumed, a run ends with the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        plan = small_plan(name)
        straight, broken = (ResultsFolder(Path(folder, name)) for name in ("straight", "broken"))
        *parents, run = plan.runs
        for parent in parents:
            execute([parent], straight, Options())
            shutil.copytree(straight.run(parent.id).path, broken.run(parent.id).path)
        places = Places(registry.algorithm(name))
        with places.watched():
            execute([run], straight, Options(), places.stop)
        agent = registry.algorithm(name)
        stages = agent.stages(config_of(run.spec, agent), run.spec.budget)
        never = [stage.name for stage in stages if stage.name not in places.stages()]
        assert not never, f"stage {never[0]} neither yields nor takes steps: nothing can interrupt it"
        chosen = places.chosen()
        breaks = f"{execute_with_breaks(run, broken, chosen)} interruptions"
        for file in ("evaluations", "episodes"):
            a, b = (getattr(root.run(run.id), file).read_bytes() for root in (straight, broken))
            assert a == b, f"{file}.jsonl differs after {breaks}"
        a, b = (_final_arrays(root.run(run.id)) for root in (straight, broken))
        assert a == b, f"the final parameters differ after {breaks}"
        return f"{breaks}, {places.fits} model fits" if places.fits else breaks


def small_plan(name: str) -> Plan:
    """Return the plan of one small run of the algorithm on the point mass, and of its pretraining."""
    reduced: dict[str, Any] = {
        "offline": {"updates": 1000, "evaluate_every": 1000},
        "online": {"steps": STEPS, "evaluate_every": 10},
    }
    for used in {name, registry.algorithm(name).pretrain} - {None}:
        few, full = (of(registry.algorithm(str(used))) for of in (_few, _counts))
        lives = {key: min(LIFE, full[key] or LIFE) for key in few if key.endswith("updates")}
        reduced[str(used)] = few | lives
    value = {"algorithms": [name], "datasets": [DATA], "seeds": [0], "frozen": False, "reduced": reduced}
    plan = expand(Located(value), f"check-{name}", Selection(defaults=True))
    runs: dict[str, Run] = {}
    for run in plan.runs:
        spec = run.spec
        updates = LIFE if spec.budget.offline_updates else 0
        spec = replace(
            spec,
            budget=replace(spec.budget, offline_updates=updates),
            protocol=replace(spec.protocol, episodes=2, final_episodes=4),
            config={**spec.config, **_narrow(registry.algorithm(run.algorithm))},
        )
        runs[run.id] = replace(run, spec=spec, parent=runs[run.parent].id if run.parent else None)
    return replace(plan, runs=tuple(runs.values()))


CHECKS: tuple[Callable[[str], str | None], ...] = (
    a_life_fits_the_steps_it_takes,
    acts_in_bounds,
    batch_is_singles,
    updates_change_weights,
    save_and_load,
    a_state_is_a_copy,
    evaluation_leaves_no_trace,
    a_policy_can_be_evaluated_elsewhere,
    global_randomness_untouched,
    neighbours_do_not_matter,
    resume_is_straight,
)


def _few(agent: type[Agent[Any]]) -> dict[str, int]:
    return {key: FEW for key, default in _counts(agent).items() if default is None or default > FEW}


def _counts(agent: type[Agent[Any]]) -> dict[str, int | None]:
    return _declared(agent, "count")


def _narrow(agent: type[Agent[Any]]) -> dict[str, Any]:
    """Return options that make an update cheap: narrow layers, and few rows in a ``batch_size``."""
    hidden = _declared(agent, "widths").items()
    narrow: dict[str, Any] = {
        key: tuple(min(width, NARROW) for width in layers) for key, layers in hidden if layers
    }
    rows = agent.Config.model_fields.get("batch_size")
    if rows and isinstance(rows.default, int) and rows.default > NARROW:
        narrow["batch_size"] = NARROW
    return narrow


def _declared(agent: type[Agent[Any]], kind: str) -> dict[str, Any]:
    """Return the defaults of the options that are declared as counts or widths."""
    return {
        key: field.default
        for key, field in agent.Config.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get(kind)
    }


class Places:
    """Where a run can be interrupted: after each yield and each step; and a stop at chosen ones of them."""

    def __init__(self, agent: type[Agent[Any]], at: Collection[int] = ()) -> None:
        self.agent, self.at = agent, at
        self.found: list[tuple[str, int]] = []
        """Of each place the stage, and the number of the model fit that goes on there, 0 for none."""
        self.fits, self._fitting, self._stage, self._moved = 0, False, "", False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note what the agents of this class do."""
        places, work, observe = self, self.agent.work, self.agent.observe

        def noted_work(agent: Agent[Any], stage: str) -> Iterator[Metrics]:
            places._stage = stage
            for metrics in work(agent, stage):
                fitting = getattr(agent, "training", None) is not None
                places.fits += fitting and not places._fitting
                places._fitting, places._moved = fitting, True
                yield metrics

        def noted_observe(agent: Agent[Any], step: Transitions) -> None:
            places._moved = True
            observe(agent, step)

        own = {name: vars(self.agent).get(name) for name in ("work", "observe")}
        for name, method in (("work", noted_work), ("observe", noted_observe)):
            setattr(self.agent, name, method)
        try:
            yield
        finally:
            for name, former in own.items():
                setattr(self.agent, name, former) if former else delattr(self.agent, name)

    def stop(self) -> bool:
        """Note the place, if anything has happened since the last one; tell whether to stop there."""
        if not self._moved:
            return False
        self._moved = False
        self.found.append((self._stage, self.fits if self._fitting else 0))
        return len(self.found) in self.at

    def stages(self) -> set[str]:
        """Return the stages that can be interrupted."""
        return {stage for stage, _ in self.found}

    def chosen(self) -> set[int]:
        """Return the numbers, from 1, of at most 60 places: the first of each stage and fit, then evenly."""
        first = {place: number for number, place in reversed([*enumerate(self.found, 1)])}
        some = np.linspace(1, len(self.found), max(0, INTERRUPTIONS - len(first))).round().astype(int)
        return set(first.values()) | set(some.tolist())


def execute_with_breaks(run: Run, results: ResultsFolder, at: Collection[int]) -> int:
    """Compute a run in pieces, stopped at each of these places and resumed; return how often it stopped."""
    places, breaks = Places(registry.algorithm(run.algorithm), at), 0
    with places.watched():
        while not results.run(run.id).done.exists():
            try:
                execute([run], results, Options(), places.stop)
            except Interrupted:
                breaks += 1
    return breaks


def _final_arrays(folder: RunFolder) -> bytes:
    [file] = folder.checkpoint.glob("*/state.safetensors")
    values = json.loads((file.parent / "manifest.json").read_text())["values"]["agent"]
    return file.read_bytes() + json.dumps(values, sort_keys=True).encode()


def _planned(agent: Agent[Any]) -> int:
    return sum(stage.updates for stage in type(agent).stages(agent.config, agent.task.budget))


def _work(agent: Agent[Any], stage: str, look: Callable[[str], None] = lambda stage: None) -> None:
    for _ in agent.work(stage):
        look(stage)


def _observations(seeds: int, n: int) -> Array:
    return np.random.default_rng(0).normal(size=(seeds, n, find_env(ENV).obs_dim)).astype(np.float32)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return type(a) is type(b) and bool(a == b)


def _global_states() -> tuple[Any, ...]:
    numpy_state = np.random.get_state()  # noqa: NPY002  (read, to see that nobody moves it)
    states = [random.getstate(), str(numpy_state)]
    if torch := sys.modules.get("torch"):
        states.append(torch.get_rng_state().numpy().tobytes())
    return tuple(states)
