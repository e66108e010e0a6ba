"""SAC that starts from any pretraining: the factors that the field argues about, as options.

Which offline data stay in the batches (``replay_data``), how many steps the pretrained policy collects
before learning (``learning_starts``), what begins anew (``reset_actor``, ``reset_critics``,
``keep_moments``), whether CQL's penalty goes on (``cql_alpha``), updates per step, number of critics. With
CQL's penalty and half of each batch offline it is ``cql_finetune``, with other defaults it is ``wsrl``
(arXiv:2412.07762); "three regimes" (arXiv:2510.01460) compares its switches.

It takes over part by part: networks of equal shape are kept, with their optimisers' moments, and so are the
maps of observations and rewards. Critics that are missing or of another shape begin anew
(``critic_warmup`` then fits them on offline data under the fixed policy first). A policy of another class
(deterministic, one deviation for all states, any other agent) is distilled to a tanh-Gaussian. ``run.json``
says under ``taken_over`` what became of each part.

As in CQL and WSRL the target has no entropy and the actor's rate is 1e-4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from o2obench.agent import KEPT, Budget, Stage, State, count, stack_seeds
from o2obench.kit.model_free.cql import Conservative, CqlOptions
from o2obench.kit.model_free.distill import OBSERVATIONS, actions_of, distil
from o2obench.kit.model_free.sac import OnlineSac, OnlineSacOptions
from o2obench.kit.networks import to_array
from o2obench.kit.options import Count, Weight
from o2obench.kit.policies import TanhGaussian

WARMUP = "critic warm-up"


class SacFromConfig(CqlOptions, OnlineSacOptions):
    """The switches; the others are those of CQL and of SAC with the environment."""

    cql_alpha: Weight = 0.0
    """Weight of CQL's penalty; at 0 it is not computed."""
    reset_actor: bool = False
    """Whether the actor begins with fresh weights."""
    reset_critics: bool = False
    """Whether the critics do."""
    keep_moments: bool = True
    """Whether the optimisers of what is kept go on with their moments and step counts."""
    critic_warmup: Count = count(0)
    """Updates of the critics alone, on offline data, before anything else."""
    distil_updates: Count = count(5000)
    """Updates with which a policy of another class is distilled."""


class SacFrom(OnlineSac[SacFromConfig], Conservative[SacFromConfig]):
    """SAC after a pretraining."""

    Config = SacFromConfig
    pretrain = "cql"
    requires: ClassVar[tuple[str, ...]] = ("actor",)
    takes_parts = True
    taken: Mapping[str, str] = {}

    @classmethod
    def stages(cls, config: SacFromConfig, budget: Budget) -> tuple[Stage, ...]:
        """Fit the critics first where they are to be, then learn with the environment."""
        stages = super().stages(config, budget)
        return (Stage(WARMUP), *stages) if config.critic_warmup else stages

    def due_at_begin(self, stage: str) -> int:
        """Return the updates of a critic warm-up."""
        return self.config.critic_warmup if stage == WARMUP else super().due_at_begin(stage)

    def parts_of(self, stage: str) -> Sequence[str]:
        """Let only the critics learn in their warm-up."""
        if stage != WARMUP:
            return self.order
        return [name for name in self.order if name not in ("actor", "alpha")]

    def warm_start(self, states: Sequence[State]) -> None:
        """Take over what fits, part by part."""
        state = stack_seeds(states)
        if "maps" in state:
            self._load_maps(state["maps"])
        self.taken = {"actor": self._take_actor(state, states), "critics": self._take_critics(state)}

    def taken_over(self) -> Mapping[str, str]:
        """Return what became of the pretraining's actor and critics."""
        return self.taken

    def _take_actor(self, state: State, states: Sequence[State]) -> str:
        if self.config.reset_actor:
            return "fresh: reset_actor"
        given = _networks(state).get("actor")
        same = state.get("policy", TanhGaussian.__name__) == TanhGaussian.__name__
        if given is None or not same or given["flat"].shape != self.nets["actor"].flat.shape:
            self._distil(states)
            return f"distilled in {self.config.distil_updates:,} updates: of another class or shape"
        self.nets["actor"].load_state_dict(given)
        if "alpha" in state.get("adams", {}):
            self.parameters["alpha"].copy_(torch.from_numpy(state["scalars"]["alpha"]))
        return self._take_moments(state, ("actor", "alpha"))

    def _distil(self, states: Sequence[State]) -> None:
        if self.task.pretraining is None:
            raise TypeError("sac_from needs the pretraining's agent, to ask it for actions")
        parent, rows = self.task.pretraining(), self.replay.rows[: self.replay.offline]
        parent.restore(states)
        obs = self.replay.unpack(rows[:: len(rows) // OBSERVATIONS + 1]).obs
        modes, samples = (x.to(self.task.device) for x in actions_of(parent, to_array(obs)))
        inputs = self._standard(obs.expand(len(self.task.seeds), -1, -1))
        policy = TanhGaussian(self.task.act_dim)
        distil(self.nets["actor"], policy, self.streams, inputs, modes, samples, self.config.distil_updates)

    def _take_critics(self, state: State) -> str:
        if self.config.reset_critics:
            return "fresh: reset_critics"
        given = _networks(state)
        if "critics" not in given:
            return "fresh: the pretraining has none"
        (_, theirs, sizes), (_, ours, own) = given["critics"]["flat"].shape, self.nets["critics"].flat.shape
        if (theirs, sizes) != (ours, own):
            return f"fresh: the pretraining has {theirs} of {sizes:,} parameters, this has {ours} of {own:,}"
        for name in ("critics", "targets"):
            self.nets[name].load_state_dict(given[name])
        return self._take_moments(state, ("critics",))

    def _take_moments(self, state: State, names: Sequence[str]) -> str:
        given = state.get("adams", {})
        if not self.config.keep_moments or any(name not in given for name in names):
            return f"{KEPT}, moments forgotten"
        for name in names:
            self.adams[name].load_state_dict(given[name])
        return KEPT


def _networks(state: State) -> dict[str, Any]:
    """Return a pretraining's networks by name, of either family; empty where it has another form."""
    networks: dict[str, Any] = state.get("nets") or state.get("sac") or {}
    return networks
