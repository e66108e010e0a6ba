"""o2obench: which method tunes an offline-trained agent fastest without a collapse?

The public names are those of the agent interface; everything else is reached through ``o2obench`` on
the command line.
"""

from .agent import Agent, Budget, Config, Metrics, Stage, State, Task, Transitions

__version__ = "0.1.0"
__all__ = ["Agent", "Budget", "Config", "Metrics", "Stage", "State", "Task", "Transitions"]
