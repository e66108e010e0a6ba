"""The model-free family: one off-policy template, whose defaults are SAC."""
