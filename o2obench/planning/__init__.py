"""Suite files to plans: every run of a grid, checked before anything starts."""
