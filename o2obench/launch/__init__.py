"""Launching: one process per run, on this machine (later also through SLURM)."""
