"""o2obench: which method tunes an offline-trained agent fastest without a collapse?

The public names are those of the agent interface and ``table``, a results folder as a DataFrame; everything
else is reached through ``o2obench`` on the command line.
"""

from .agent import Agent, Budget, Config, Metrics, Network, Stage, State, Task, Transitions
from .analysis.results import table

__version__ = "0.1.0"
__all__ = [
    "Agent",
    "Budget",
    "Config",
    "Metrics",
    "Network",
    "Stage",
    "State",
    "Task",
    "Transitions",
    "table",
]
