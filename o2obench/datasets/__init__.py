"""Datasets by name: where they lie, whether they are sound, and their transitions."""
