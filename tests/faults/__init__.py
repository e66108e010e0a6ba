"""Faults put in on purpose: processes killed, stopped, set against each other; files damaged; disks full."""
