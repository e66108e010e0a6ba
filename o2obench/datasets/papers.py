"""What a user asks before trusting a data set: its Croissant metadata and its datasheet, from what is known.

``NAME.croissant.json`` is JSON-LD that conforms to Croissant 1.0 and its Responsible-AI vocabulary (RAI 1.0);
``NAME.datasheet.md`` has the sections of Gebru et al., "Datasheets for Datasets" (arXiv 1803.09010). Both say
what the rows, the data card and the publisher's paper say; of the rest they say that it is unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from ..errors import UserError
from ..transitions import Transitions, episode_returns
from ..util.files import read_plain, sha256, shown, write_atomically
from . import minari
from .describe import doubts
from .reference_scores import WALKS, task_and_kind
from .registry import Dataset
from .validation import LARGEST

UNKNOWN = "unknown: the data card does not say"
SAID = ("purpose", "creator", "how", "policy", "preprocessing", "date", "version", "url", "cite_as")
"""What a data card may say in words, besides its licence; a date is YYYY-MM-DD, a version 1.2.0."""
LONGEST = 2000
CONFORMS_TO = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
LICENCES = {
    "CC0-1.0": "https://spdx.org/licenses/CC0-1.0.html",
    "CC BY 4.0 (D4RL)": "https://spdx.org/licenses/CC-BY-4.0.html",
}
FORMATS = {".npz": "application/zip", ".json": "application/json"}
"""By the end of a file's name; of others HDF5's."""
PUBLISHED = {
    "d4rl": {
        "purpose": "a benchmark of offline reinforcement learning",
        "creator": "the authors of D4RL",
        "how": "as arXiv 2004.07219 says of the set of this name",
        "policy": "as arXiv 2004.07219 says of the set of this name",
        "url": "https://arxiv.org/abs/2004.07219",
        "cite_as": "Fu et al., D4RL: Datasets for Deep Data-Driven Reinforcement Learning, arXiv 2004.07219",
    },
    "ogbench": {
        "purpose": "a benchmark of offline goal-conditioned reinforcement learning",
        "creator": "the authors of OGBench",
        "how": "as arXiv 2410.20092 says of the file of this name, without a task in mind",
        "policy": "as arXiv 2410.20092 says of the file of this name",
        "preprocessing": "OGBench's own rule labels rewards and ends of the task from the simulator's state",
        "url": "https://arxiv.org/abs/2410.20092",
        "cite_as": "Park et al., OGBench: Benchmarking Offline Goal-Conditioned RL, arXiv 2410.20092",
    },
    "minari": {"how": "as Minari's metadata.json beside the file says"},
    "o2o": {
        "purpose": "to compare methods on data in D4RL's way that anybody can collect anew",
        "preprocessing": "none: rows are what the simulator returned, as float32",
        "cite_as": "The o2obench authors, o2obench: a comparative benchmark harness for offline-to-online "
        "reinforcement learning",
    },
}
"""What holds for all data of an origin."""
POLICIES = {
    "random": "episodes of the untrained policy of {}, its actions sampled",
    "replay": "{}, trained from scratch: its steps until a level was reached, or whole episodes of them",
    "medium": "episodes of {} at a third of the reference expert's score, its actions sampled",
    "expert": "episodes of the best policy of a training of {}, which scores 90 or more, its actions sampled",
    "high": "episodes of the best policy of a training of {}, its actions sampled",
    "medium-expert": "half of them episodes of {} at a third of the expert's score, half of its best policy",
}
"""Who played the episodes of a kind of collected data."""


def write(dataset: Dataset) -> list[str]:
    """Write both papers of a data set that lies here; return a line for each.

    Raises:
        UserError: It is not here or made when asked for, it fails validation, or a paper stands there that
            says something else. Nothing is written then.
    """
    if dataset.file is None:
        raise UserError(f"dataset {dataset.name}: is made when it is asked for; there is no file to describe")
    dataset.require()
    known = facts(dataset)
    texts = dict(zip(dataset.papers, (croissant(known), datasheet(known)), strict=True))
    new = [path for path, text in texts.items() if not path.exists()]
    for path, text in texts.items():
        if path not in new and read_plain(path, follow=True) != text.encode():
            raise UserError(f"{path}: exists and says something else; move it away, and ask again")
    for path in new:
        write_atomically(path, texts[path])
    return [f"{path}: {'written' if path in new else 'is there'}" for path in texts]


def facts(dataset: Dataset) -> dict[str, Any]:
    """Return all that is known of a data set, by the names that the datasheet's template uses."""
    assert dataset.file is not None
    notes, data, env, scores = dataset.admit(), dataset.load(), dataset.env, dataset.scores
    (returns, lengths), said = episode_returns(data), _said(dataset)
    silent = ", ".join(key for key in SAID if key not in said)
    unsaid = [f"not known: {silent}"] if silent else []
    files = [dataset.file]
    files += [dataset.file.with_name(minari.METADATA)] if dataset.file.name == minari.MAIN else []
    return {
        "name": _text(dataset.card.get("dataset")) or dataset.papers[0].name.removesuffix(".croissant.json"),
        "environment": env.id,
        "widths": (env.obs_dim, env.act_dim),
        "rows": len(data),
        "episodes": len(returns),
        "lengths": (int(lengths.min()), int(lengths.max())),
        "ends": (int(data.terminated.sum()), int(data.truncated.sum())),
        "returns": tuple(round(float(value), 2) for value in (returns.mean(), returns.min(), returns.max())),
        "best": None if env.success else round(float(scores.score(returns.max())), 1),
        "scores": (scores.ref_min, scores.ref_max, _text(scores.source)),
        "files": [
            {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256(file, LARGEST, follow=True)}
            for file in files
        ],
        "licence": _text(dataset.licence),
        "simulated": _origin(dataset) in PUBLISHED,
        "gaps": [*notes, *doubts(dataset, data), *_gaps(dataset, data), *unsaid],
        **dict.fromkeys(SAID, UNKNOWN),
        **said,
    }


def _origin(dataset: Dataset) -> str:
    """Return whose data these are: a key of ``PUBLISHED``, or ``file`` of a user's own."""
    if dataset.card.get("collector"):
        return "o2o"
    return "d4rl" if dataset.scores.folder else dataset.name.partition(":")[0]


def _said(dataset: Dataset) -> dict[str, str]:
    """Return what is said in words: by the origin, by the way the set was made, above all by its card."""
    card, origin = dataset.card, _origin(dataset)
    said = dict(PUBLISHED.get(origin, {}))
    version = re.search(r"-v(\d+)$", str(card.get("dataset") or dataset.name))
    if version and origin in PUBLISHED:
        said["version"] = f"{version[1]}.0.0"
    if origin == "o2o":
        said |= _collected(dataset)
    if isinstance(source := card.get("imported"), dict):
        columns = source.get("columns")
        said["how"] = f"imported from {_text(source.get('file'))}; how that was recorded is unknown"
        said["preprocessing"] = f"taken as these columns: {_text(json.dumps(columns))}"
    said |= {key: text for key in SAID if (text := _text(card.get(key)))}
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", said.get("date", "")):
        said.pop("date", None)
    return said


def _collected(dataset: Dataset) -> dict[str, str]:
    """Return how and by which policy a set was collected, as its card holds it."""
    card = dataset.card
    code, collector = (
        {} if not isinstance(card.get(key), dict) else card[key] for key in ("code", "collector")
    )
    command, algorithm = _text(card.get("command")), _text(collector.get("algorithm")) or "an algorithm"
    commit = f", commit {_text(code['commit'])}" if code.get("commit") else ""
    changed = ", with changes" if code.get("dirty") else ""
    kind = (task_and_kind(str(card.get("dataset"))) or ("", ""))[1]
    policy = POLICIES.get("replay" if "replay" in kind else kind, "{}, as the command says")
    return {
        "how": f"`{command}`, o2obench {_text(code.get('version'))}{commit}{changed}",
        "policy": policy.format(algorithm.upper()),
        **({"creator": "the o2obench authors"} if dataset.embedded else {}),
    }


def _text(value: Any) -> str:
    """Return a text of a card in one printable line; empty where it holds none."""
    return shown(" ".join(value.split()))[:LONGEST] if isinstance(value, str) else ""


def _gaps(dataset: Dataset, data: Transitions) -> Iterator[str]:
    """Yield what the rows lack."""
    if not data.terminated.any():
        yield "no row ends an episode by the task"
    if not data.truncated.any():
        yield "no row ends an episode by the clock"
    if _origin(dataset) == "o2o":
        kind = (task_and_kind(str(dataset.card.get("dataset"))) or ("", ""))[1]
        if kind in WALKS:
            yield "all rows come from one controller: no other way through the maze is in them"
        elif not dataset.card.get("trainings"):
            yield "all rows come from one training with one seed"
        if kind and kind not in WALKS:
            yield "D4RL's set of the same task and kind holds other rows: scores on the two do not compare"


def datasheet(known: dict[str, Any]) -> str:
    """Return the datasheet as Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("o2obench", "datasets"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("datasheet.md").render(known, unknown=UNKNOWN)


def croissant(known: dict[str, Any]) -> str:
    """Return the metadata as JSON-LD. HDF5 has no record sets in Croissant 1.0: the files are described."""
    context = resources.files("o2obench.datasets").joinpath("croissant_context.json").read_text("utf-8")
    optional = {
        "creator": {"@type": "sc:Organization", "name": known["creator"]},
        "datePublished": known["date"],
        "version": known["version"],
        "url": known["url"],
        "citeAs": known["cite_as"],
    }
    keys = dict(zip(optional, ("creator", "date", "version", "url", "cite_as"), strict=True))
    value = {
        "@context": json.loads(context),
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": known["name"],
        "description": f"{known['rows']:,} transitions in {known['episodes']:,} episodes of "
        f"{known['environment']}. Played by: {known['policy']}. Made: {known['how']}.",
        "license": LICENCES.get(known["licence"], known["licence"]),
        **{name: value for name, value in optional.items() if known[keys[name]] != UNKNOWN},
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file["name"],
                "name": file["name"],
                "contentUrl": file["name"],
                "contentSize": f"{file['bytes']} B",
                "encodingFormat": FORMATS.get(Path(file["name"]).suffix, "application/x-hdf5"),
                "sha256": file["sha256"],
            }
            for file in known["files"]
        ],
        **_responsible(known),
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _responsible(known: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of Croissant's Responsible-AI vocabulary."""
    simulated = known["simulated"]
    return {
        "rai:dataCollection": f"{known['how']}; played by: {known['policy']}",
        **({"rai:dataCollectionType": ["Experiments"]} if simulated else {}),
        "rai:dataCollectionRawData": "the simulator's" if simulated else UNKNOWN,
        "rai:dataPreprocessingProtocol": [known["preprocessing"]],
        "rai:dataLimitations": known["gaps"],
        "rai:dataBiases": ["the rows are those that the policies visited which played; others are not there"],
        "rai:dataUseCases": [
            f"offline and offline-to-online reinforcement learning in {known['environment']}"
        ],
        "rai:dataSocialImpact": "none is known: a simulated task" if simulated else UNKNOWN,
        "rai:personalSensitiveInformation": ["none: states of a simulator" if simulated else UNKNOWN],
        "rai:dataReleaseMaintenancePlan": UNKNOWN,
    }
