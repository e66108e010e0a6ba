"""``o2obench new NAME``: the template of an algorithm, in a checkout or as a package of one's own."""

from __future__ import annotations

import keyword
from pathlib import Path

from .. import registry
from ..errors import UserError

ALGORITHM = '''"""{title}: say in one sentence what it does (authors, year, arXiv or DOI).

Deviations from the paper, each with its reason:

- none yet.
"""

from __future__ import annotations

from torch import Tensor

from o2obench.kit.model_based.template import ModelBased, OnlineConfig


class {title}Config(OnlineConfig):
    """Options; defaults are the paper's, each with its source."""

    noise: float = 1.0
    """Scale of the exploration noise (an example: replace it)."""


class {title}(ModelBased[{title}Config]):
    """Naive fine-tuning but for one difference; the template in ``kit.model_based`` lists the verbs."""

    Config = {title}Config
    pretrain = "mopo"

    def explore(self, obs: Tensor) -> Tensor:
        """Act with the policy's noise scaled."""
        noise = self.streams.normal("exploration", *obs.shape[1:-1], self.task.act_dim)
        return self.sac.act(obs, self.config.noise * noise)
'''

OPTIONS = """# {title} by data set: one row each, exact names win over patterns.
datasets:
  pointmass-*: {{rollout_length: [0, 1, 1, 1]}}
  invertedpendulum-*: {{rollout_length: [0, 1, 1, 1]}}
"""

TEST = '''"""{title} passes the checks of an agent, and does what its paper says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from o2obench.testing.check_agent import CHECKS


@pytest.mark.parametrize("holds", CHECKS, ids=lambda check: check.__name__)
def test_checks(holds: Callable[[str], None]) -> None:
    holds("{name}")
'''

PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "o2obench-{dashed}"
version = "0.1.0"
dependencies = ["o2obench"]

[project.entry-points."o2obench.algorithms"]
{name} = "o2obench_{name}.{name}:{title}"

[tool.setuptools]
packages = ["o2obench_{name}"]

[tool.setuptools.package-data]
"o2obench_{name}" = ["configs/*.yaml"]
"""


def write_template(name: str, folder: Path) -> list[Path]:
    """Write the files of algorithm ``name`` and return their paths; nothing is ever overwritten.

    In a checkout of o2obench they go to algorithms/, algorithms/configs/ and tests/; elsewhere to a
    package ``o2obench-NAME`` that registers the algorithm by entry point.
    """
    if not name.isidentifier() or name != name.lower() or keyword.iskeyword(name):
        raise UserError(f"new {name}: the name must be lower-case letters, digits and underscores")
    if name in registry.names():
        raise UserError(f"new {name}: an algorithm of this name exists")
    words = {
        "name": name,
        "title": "".join(part.capitalize() for part in name.split("_")),
        "dashed": name.replace("_", "-"),
    }
    if (folder / "algorithms" / "mopo.py").is_file():
        files = {
            folder / "algorithms" / f"{name}.py": ALGORITHM,
            folder / "algorithms" / "configs" / f"{name}.yaml": OPTIONS,
            folder / "tests" / "algorithms" / f"test_{name}.py": TEST,
        }
    else:
        root = folder / f"o2obench-{words['dashed']}"
        package = root / f"o2obench_{name}"
        files = {
            root / "pyproject.toml": PROJECT,
            package / "__init__.py": '"""{title} for o2obench."""\n',
            package / f"{name}.py": ALGORITHM,
            package / "configs" / f"{name}.yaml": OPTIONS,
            root / "tests" / f"test_{name}.py": TEST,
        }
    for path in files:
        if path.exists():
            raise UserError(f"{path}: exists; nothing is overwritten")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(**words))
    return list(files)
