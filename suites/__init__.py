"""The suites: every published number is one of these files."""
