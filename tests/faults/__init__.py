"""Faults on purpose: processes killed, stopped, set against each other; corrupted files, full disks."""
