"""Environments: sizes, termination rules, vectorised stepping, the simulator's own answers."""
