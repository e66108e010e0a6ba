"""Launching: worker processes on this machine, array jobs on a cluster, and where their runs stand."""
