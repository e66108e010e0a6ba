"""Data sets by name: where they lie, what they are, and their transitions, checked before use.

Names: ``hopper-medium-v2`` or ``d4rl:hopper-medium-v2`` (D4RL's), ``o2o:hopper-medium-replay-v0``
(collected by this project), ``minari:mujoco/hopper/medium-v0``,
``ogbench:pointmaze-medium-navigate-singletask-v0``, ``file:path.hdf5`` (D4RL's layout, with a ``path.json``
beside it that names the environment), and those that come with the package.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..envs.own import with_rule
from ..envs.spec import EnvSpec, environments, find_env
from ..errors import MissingData, UserError, told_at
from ..transitions import Transitions
from ..util.files import expanded, folder_of_user, is_number, read_json, sha256
from . import minari, ogbench, validation
from .isolated_validation import admit, read_columns
from .reference_scores import (
    COLLECTED,
    KINDS,
    WALKS,
    Reference,
    known_reference,
    reference_of,
    references,
    task_and_kind,
    task_name,
)
from .toy import MADE

EMBEDDED = Path(__file__).parent / "embedded"
MINARI_ID = re.compile(r"(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+-v[0-9]+")
PAPERS = ("croissant.json", "datasheet.md")
"""How the names of a data set's papers end."""
MINARI_D4RL = "minari:D4RL/"
"""How the names of Minari's sets begin that were made for D4RL's tasks, in environments of their own."""
TASKS = ("halfcheetah", "hopper", "walker2d")


@dataclass(frozen=True)
class Dataset:
    """A named data set: its environment, its reference scores and the file that holds it.

    ``file`` is None for the toy data, which are made when they are asked for.
    """

    name: str
    env: EnvSpec
    scores: Reference
    file: Path | None

    @property
    def embedded(self) -> bool:
        """Whether the data came with the package."""
        return self.file is None or self.file.parent == EMBEDDED

    @property
    def present(self) -> bool:
        """Whether the data are on this machine."""
        return self.file is None or self.file.is_file()

    @property
    def published(self) -> bool:
        """Whether somebody publishes the file, so that it can be fetched."""
        return bool(self.scores.folder) or self.name.startswith(("minari:", ogbench.SCHEME))

    @property
    def card(self) -> dict[str, Any]:
        """What the data card beside the file says, empty where there is none."""
        value = read_json(self.file.with_suffix(".json"), follow=True) if self.file else None
        return value if isinstance(value, dict) else {}

    @property
    def papers(self) -> tuple[Path, ...]:
        """Where Croissant metadata and the datasheet lie, if they are there; none for the toy data."""
        if self.file is None:
            return ()
        of_task = self.name.startswith(ogbench.SCHEME)  # several sets in one file
        stem = self.name.removeprefix(ogbench.SCHEME) if of_task else self.file.stem
        return tuple(self.file.with_name(f"{stem}.{kind}") for kind in PAPERS)

    @property
    def licence(self) -> str:
        """The licence of the data, as far as it is known."""
        if self.scores.folder:
            return "CC BY 4.0 (D4RL)"
        if self.file is None:
            return "CC0-1.0"
        return str(self.card.get("licence") or "not known; ask who made it")

    @property
    def key(self) -> str:
        """The name in a run's identity: without the folder of a user's own file, which does not matter."""
        return f"file:{Path(self.name).name}" if self.name.startswith("file:") else self.name

    def sha256(self) -> str:
        """Return the SHA-256 of the file (of file and metadata for Minari's, of arrays for the toy data)."""
        if self.file is None:
            return _sha256_of_made(self.name)
        self.require()
        if self.file.name == minari.MAIN:
            both = (_sha256_now(self.file), _sha256_now(self.file.with_name(minari.METADATA)))
            return hashlib.sha256("".join(both).encode()).hexdigest()
        return _sha256_now(self.file)

    @functools.cached_property
    def recipe(self) -> str:
        """The identity of the run that collected the data; empty where the card names none."""
        if self.file is None or self.embedded or not self.name.startswith("o2o:"):
            return ""
        card = read_json(self.file.with_suffix(".json"), follow=True)
        recipe = card.get("recipe") if isinstance(card, dict) else None
        return recipe if isinstance(recipe, str) and re.fullmatch("[0-9a-f]{64}", recipe) else ""

    def require(self) -> None:
        """Raise UserError, saying where to put the file, when the data are not on this machine."""
        if not self.present:
            raise UserError(f"dataset {self.name}: {self.file} is missing; {self.remedy()}")

    def remedy(self) -> str:
        """Return how a missing file can be had."""
        collected = COLLECTED.fullmatch(self.name)
        if collected:
            kind = collected["kind"]
            flags = f"--kind {kind}" if kind in (*KINDS, *WALKS) else f"--level {kind.removeprefix('replay')}"
            how = f"`o2obench data collect {collected['task']} {flags}` makes it"
        elif self.name.startswith("minari:"):
            return f"`o2obench data fetch {self.name}`, or name Minari's folder in {minari.FOLDER}"
        elif self.name.startswith(ogbench.SCHEME):
            return f"`o2obench data fetch {self.name}`, or {self.by_hand()}"
        else:
            how = f"`o2obench data fetch {self.name}`" if self.published else "it cannot be fetched"
        how += f", or {self.by_hand()}"
        packaged = "o2o:{}-{}-v0".format(*task_and_kind(self.name) or ("", ""))
        is_packaged = packaged != self.name and _embedded(packaged).is_file()
        return f"{how}, or use {packaged}, which came with the package" if is_packaged else how

    def by_hand(self, place: str = "there") -> str:
        """Return how to bring a missing file here without us; ``place`` where that has not been said."""
        variable = ogbench.FOLDER if self.name.startswith(ogbench.SCHEME) else "O2OBENCH_DATA"
        return f"put the file {place}, or name its folder in {variable}"

    def admit(self) -> list[str]:
        """Let the data pass validation, once per hash; return what is worth knowing about them.

        Raises UserError listing every problem as ``file:/key: what is wrong; what to do``.
        """
        return admit(self.file, self.env, self.sha256()) if self.file else []

    def columns(self) -> validation.Columns:
        """Return the raw arrays of a file that passed validation."""
        assert self.file is not None
        notes = self.admit()
        columns = read_columns(self.file, self.env, validation.Summary(self.file, admitted=True))
        return validation.mark_ends(columns) if validation.UNMARKED in " ".join(notes) else columns

    def load(self, sha256: str = "", recipe: str = "") -> Transitions:
        """Return the transitions, checked; raise UserError when they are not those of a hash or a recipe."""
        if sha256 and sha256 != self.sha256():
            raise UserError(
                f"{self.file}: SHA-256 is {self.sha256()[:12]}, the run was planned on {sha256[:12]}"
            )
        self.require()
        if recipe and recipe != self.recipe:
            raise UserError(
                f"{self.file}: was collected by recipe {self.recipe[:12] or 'unknown'}, the run was planned "
                f"on {recipe[:12]}; start the suite again, or name another folder in O2OBENCH_DATA"
            )
        return MADE[self.name]() if self.file is None else validation.transitions(self.columns(), self.env)


def canonical(name: str) -> str:
    """Return the one name of a data set: no ``d4rl:``, a user's own file by its full path."""
    if name.startswith("file:"):
        try:
            path = expanded(name.removeprefix("file:")).resolve()
            path.exists()
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"dataset {name[:80]}: not a path: {error}") from None
        return f"file:{path}"
    return name.removeprefix("d4rl:")


def is_d4rl(name: str) -> bool:
    """Tell whether a data set is one of D4RL's own."""
    entry = references().get(name)
    return bool(entry and entry.folder)


def is_collected(name: str) -> bool:
    """Tell whether a data set was collected by this project, also under another name or layout."""
    if name.startswith("file:"):
        card = read_json(Path(name.removeprefix("file:")).with_suffix(".json"), follow=True)
        return isinstance(card, dict) and str(card.get("dataset", "")).startswith("o2o:")
    return name.startswith(("o2o:", "minari:o2o/"))


def find_dataset(name: str) -> Dataset:
    """Return the data set of this name; raise UserError when it or its environment is not known."""
    name = canonical(name)
    scheme, colon, rest = name.partition(":")
    if colon and scheme == "file":
        return _of_card(name, Path(rest))
    if colon and scheme == "minari":
        return _of_minari(name)
    if colon and scheme == "ogbench":
        return _of_ogbench(name)
    collected = COLLECTED.fullmatch(name)
    if collected and known_reference(name) is None:
        return _of_card(name, data_folder() / f"{name.removeprefix('o2o:')}.hdf5")
    scores = reference(name)
    try:
        env = find_env(scores.environment)
    except UserError:
        task = scores.environment or name.partition("-")[0]
        raise UserError(
            f"dataset {name}: its environment {task} is not known here; `o2obench data list` shows the data "
            "sets that can be used"
        ) from None
    if name in MADE:
        return Dataset(name, env, scores, None)
    embedded = _embedded(name)
    file = embedded if embedded.is_file() else data_folder() / scores.file
    return Dataset(name, env, scores, file)


def reference(name: str) -> Reference:
    """Return the reference scores in the table; raise UserError when there are none."""
    entry = known_reference(name)
    if entry is None:
        hint = _similar(name) or "`o2obench data list` shows the known ones"
        hint = f"write file:{name}" if name.lower().endswith((".hdf5", ".h5")) else hint
        raise UserError(f"dataset {name[:80]}: not known, no reference scores; {hint}")
    return entry


def find_task(task: str) -> EnvSpec:
    """Return the environment of an id or of its short name."""
    short = {task_name(spec.id): spec for spec in environments().values()}
    return short[task] if task in short else find_env(task)


def dataset_names() -> list[str]:
    """Return all names whose environment is known here, those that came with the package first."""
    names = [*_published_names(), *_local_names()]
    usable = [name for name in dict.fromkeys(names) if ":" not in name or not why_unusable(name)]
    return sorted(usable, key=lambda name: (not find_dataset(name).embedded, name))


def unusable_datasets() -> dict[str, str]:
    """Return the data sets that lie on this machine and cannot be used, each with the reason."""
    return {name: why for name in _local_names() if (why := why_unusable(name))}


def why_unusable(name: str) -> str:
    """Return why a data set cannot be used, empty where it can."""
    try:
        find_dataset(name)
    except UserError as error:
        return str(error)
    return ""


def _published_names() -> list[str]:
    names = [name for name, entry in references().items() if entry.environment in environments()]
    return names + [f"o2o:{task}-{kind}-v0" for task in TASKS for kind in KINDS]


def _local_names() -> list[str]:
    """Return the names of what lies in the data folder, in Minari's and in OGBench's."""
    collected = [f"o2o:{file.stem}" for file in data_folder().glob("*-v0.json")]
    root = minari.root_folder()
    metadata = root.glob(f"**/data/{minari.METADATA}")
    of_minari = [f"minari:{file.parent.parent.relative_to(root)}" for file in metadata]
    return collected + of_minari + ogbench.local_names()


def _similar(name: str) -> str:
    """Return ``did you mean ...?`` where a data set has nearly this name, else an empty text."""
    names = {*references(), *_published_names(), *_local_names()} - {name}
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def data_folder() -> Path:
    """Return the folder of downloaded data: $O2OBENCH_DATA, else ~/.o2obench/data."""
    return folder_of_user("O2OBENCH_DATA", ".o2obench", "data")


def _embedded(name: str) -> Path:
    return EMBEDDED / f"{name.replace(':', '-')}.hdf5"


def _of_card(name: str, file: Path) -> Dataset:
    """Return a data set that a card beside its file describes: environment, and scores where not known."""
    card_file = file.with_suffix(".json")
    if not file.is_file():
        collect = name.startswith("o2o:")
        remedy = (
            "`o2obench data collect` makes it"
            if collect
            else "give the path of an HDF5 file in D4RL's layout"
        )
        similar = _similar(name) if collect else ""
        raise UserError(f"dataset {name}: {file} is missing; {remedy}{similar and '; '}{similar}")
    card = read_json(card_file, follow=True)
    if card is None and card_file.is_file():
        raise UserError(f'dataset {name}: {card_file} is not JSON; mend it: {{"environment": "Hopper-v4"}}')
    if not isinstance(card, dict) or not isinstance(card.get("environment"), str):
        raise UserError(
            f'dataset {name}: its environment is not known; write {{"environment": "Hopper-v4"}} (and '
            f"ref_min, ref_max, the returns of score 0 and 100, where we have none) to {card_file}"
        )
    env = _env_of(card_file, card["environment"])
    if "terminal" in card:
        rule = card["terminal"]
        if isinstance(rule, dict) and "function" in rule:
            raise UserError(f"{card_file}: terminal: no card names a function; use --terminal MODULE:NAME")
        with told_at(f"{card_file}: terminal"):
            env = with_rule(env, rule)
    return Dataset(name, env, _scores(name, env, card, card_file), file)


def minari_id(name: str) -> str:
    """Return what Minari calls a data set; raise UserError where that is no name of its."""
    rest = name.removeprefix("minari:")
    if not MINARI_ID.fullmatch(rest) or len(rest) > 200:
        raise UserError(f"dataset {name}: not a name of Minari's; for example minari:mujoco/hopper/medium-v0")
    return rest


def _of_minari(name: str) -> Dataset:
    file = minari.main_file(minari_id(name))
    described = file.is_file() or file.with_name(minari.METADATA).is_file()
    meta = minari.metadata(file) if described else {}  # of another format, the file may have another name
    if not file.is_file():
        entry = references().get(name)
        if entry:
            return Dataset(name, find_env(entry.environment), entry, file)
        similar = _similar(name)
        raise MissingData(
            f"dataset {name}: {file} is missing; `o2obench data fetch {name}`, or name Minari's folder in "
            f"{minari.FOLDER}{similar and '; '}{similar}",
            names=(name,),
        )
    place = file.with_name(minari.METADATA)
    env = _env_of(place, meta["environment"])
    own = {} if env.goal_observations else meta  # what counts there is the task's, not a return of Minari's
    return Dataset(name, env, _scores(name, env, own, place), file)


def _of_ogbench(name: str) -> Dataset:
    """Return a single-task set, of which the outcome of an episode is its success: 0 or 1."""
    environment, file = ogbench.place_of(name)
    with told_at(f"dataset {name}"):
        env = find_env(environment)
    scores = Reference(name, env.id, 0.0, 1.0, "", "", "OGBench (arXiv 2410.20092): the rate of success")
    return Dataset(name, env, scores, file)


def _env_of(place: Path, env_id: str) -> EnvSpec:
    """Return the environment that a file names; raise UserError naming both when it is not known."""
    with told_at(place):
        return find_env(env_id)


def _scores(name: str, env: EnvSpec, card: dict[str, Any], place: Path) -> Reference:
    """Return the scores that a card holds, else those known for the data set or its environment."""
    if env.success:
        return Reference(name, env.id, 0.0, 1.0, "", "", "the rate of success")
    low, high = card.get("ref_min"), card.get("ref_max")
    if low is not None or high is not None:
        if not (is_number(low) and is_number(high) and low < high):
            raise UserError(
                f"{place}: ref_min {low!r} and ref_max {high!r} must be numbers, the first smaller"
            )
        source = str(card.get("source") or f"the data set's own {place.name}")
        return Reference(name, env.id, float(low), float(high), "", "", source)
    entry = known_reference(name)
    if entry is None or entry.environment != env.id:
        entry = reference_of(env.id)
    if entry is None:
        keys = ("ref_min_score", "ref_max_score") if place.name == minari.METADATA else ("ref_min", "ref_max")
        raise UserError(
            f"dataset {name}: no reference scores are known for {env.id}; "
            f"write {' and '.join(keys)} to {place}"
        )
    return replace(entry, dataset=name, folder="", file="")


@functools.cache
def _sha256_of_made(name: str) -> str:
    data = MADE[name]()
    arrays = [getattr(data, name) for name in data.__dataclass_fields__]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def _sha256_now(file: Path) -> str:
    stat = file.stat()
    return _sha256(file, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _sha256(file: Path, size: int, mtime_ns: int) -> str:
    return sha256(file, validation.LARGEST, follow=True)
