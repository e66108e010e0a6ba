"""The model-based family: a dynamics model, rollouts in it, and SAC on both kinds of transitions."""
