"""``python -m o2obench``."""

from .cli import main

main()
