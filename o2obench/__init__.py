"""o2obench: which method fine-tunes an offline-trained agent fastest without a collapse?

The public names are those of the agent interface, for authors of methods, and the functions of ``api``, which
do from Python what the command line does. docs/python.md shows both.
"""

from .agent import Agent, Budget, Config, Metrics, Network, Stage, State, Task
from .api import check_agent, load_dataset, load_results, make_agent, run_suite
from .errors import RunFailed, UserError
from .transitions import Transitions

__version__ = "0.1.0"
__all__ = [
    "Agent",
    "Budget",
    "Config",
    "Metrics",
    "Network",
    "RunFailed",
    "Stage",
    "State",
    "Task",
    "Transitions",
    "UserError",
    "check_agent",
    "load_dataset",
    "load_results",
    "make_agent",
    "run_suite",
]
