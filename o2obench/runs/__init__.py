"""Runs on disk: what a run computes, its folder, its lock, its logs and its checkpoints."""
