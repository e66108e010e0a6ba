"""Seeds: the spelling of every purpose is protocol."""

from __future__ import annotations

from o2obench.util.rng import Stream, derive

VALUES = {
    **{"EVALUATION": "evaluation", "AT_ONLINE_START": "switch", "AT_ENV_STEPS": "steps"},
    **{"AT_UPDATES": "updates", "AT_LEVEL": "level", "TRAINING_EPISODE": "episode", "INIT": "init"},
    **{"ACTOR": "actor", "CRITICS": "critics", "ENSEMBLE": "ensemble", "EXPLORATION": "exploration"},
    **{"ROLLOUT_STARTS": "starts", "ROLLOUT_ACTIONS": "rollout actions", "ROLLOUT_ELITES": "elites"},
    **{"ROLLOUT_NOISE": "model noise", "REAL_BATCH": "real " + "rows", "MODEL_BATCH": "model " + "rows"},
    **{"SAC_NOISE": "sac noise", "UNCERTAIN_SET": "uncertain set", "UNCERTAIN_BATCH": "uncertain " + "rows"},
    **{"BOOTSTRAP": "bootstrap", "SHUFFLE": "shuffle", "OFFLINE_HALF": "offline half"},
    **{"OFFLINE_HOLDOUT": "held out", "ONLINE_HOLDOUT": "held out online"},
    **{"OFFLINE_PROBE": "offline probe", "ONLINE_PROBE": "online probe", "DIAGNOSIS": "diagnosis"},
    **{"IMAGINED_ACTIONS": "imagined actions", "IMAGINED_ELITES": "imagined elites"},
    **{"IMAGINED_NOISE": "imagined noise", "POLICY_PROBE": "policy", "RANDOM_ACTIONS": "random actions"},
    **{"REFERENCE_SCORES": "reference scores"},
    **{"COLLECTED_DATA": "data", "TOY_DATA": "pointmass-mixed-v0", "MAZE_DATA": "pointmaze-play-v0"},
}


def test_purposes_keep_their_spelling() -> None:
    assert {stream.name: stream.value for stream in Stream} == VALUES


def test_a_purpose_is_its_text() -> None:
    assert derive(7, Stream.EVALUATION, Stream.AT_ONLINE_START, 3) == derive(7, "evaluation", "switch", 3)


def test_seeds_stay_what_they_are() -> None:
    assert derive(0, "evaluation", "switch", 0) == 7264151444543478694
    assert derive(3, Stream.INIT, Stream.ACTOR) == 778460278652781806
