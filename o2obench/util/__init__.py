"""Small tools that know nothing of learning: files, YAML, seeds, timers."""
