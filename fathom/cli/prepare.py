"""From a name or a CSV file to arrays: split, and prepared by rules of the training rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fathom.engine.errors import ArgumentError, CheckpointError, DataError, FathomError

if TYPE_CHECKING:
    from fathom.cli.settings import Settings
    from fathom.data import Dataset, Preprocessor, Table

Array = NDArray[Any]
PARTS = ("train", "validation", "test")
FILE_ENDINGS = (".csv", ".tsv", ".txt", ".data")


@dataclass(frozen=True)
class Part:
    """Rows ready for the network: inputs, targets to train on, and inputs as they were."""

    x: NDArray[np.float32]
    y: Array
    raw: NDArray[np.float32] | None = None
    lines: Array | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Prepared:
    """A learning problem, split and preprocessed."""

    name: str
    source: str  # the name of a data set, or the path of a file
    preprocessor: Preprocessor
    train: Part
    validation: Part
    test: Part
    image_shape: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    kind: str = "name"

    @property
    def task(self) -> str:
        return target_of(self.preprocessor).task

    @property
    def classes(self) -> tuple[str, ...]:
        return target_of(self.preprocessor).classes

    @property
    def outputs(self) -> int:
        """How many numbers the network puts out."""
        return len(self.classes) or 1

    def sizes(self) -> dict[str, int]:
        """Rows in each part."""
        return {name: len(getattr(self, name)) for name in PARTS}

    def scored(self) -> tuple[str, Part]:
        """The part that tells how good the model is: test, else validation, else training."""
        for name in reversed(PARTS):
            part: Part = getattr(self, name)
            if len(part):
                return name, part
        raise DataError(f"{self.name} has no rows")

    def to_dict(self) -> dict[str, Any]:
        """What is stored with the model."""
        target = target_of(self.preprocessor)
        return {
            "name": self.name,
            "source": self.source,
            "kind": self.kind,
            "task": target.task,
            "target": target.name,
            "classes": list(target.classes),
            "features": list(self.preprocessor.feature_names_in),
            "image_shape": None if self.image_shape is None else list(self.image_shape),
            "rows": self.sizes(),
            "fingerprint": self.fingerprint,
            "preprocessor": self.preprocessor.to_dict(),
        }


def target_of(preprocessor: Preprocessor) -> Any:
    """The preprocessor's target, which every model of `fathom train` has."""
    if preprocessor.target is None:
        raise CheckpointError("the stored preprocessor names no target")
    return preprocessor.target


def is_file(data: str) -> bool:
    """Whether DATA is the path of a file rather than the name of a data set."""
    from fathom.data import names

    if data.lower().replace("-", "_") in names():
        return False
    looks = "/" in data or "\\" in data or data.lower().endswith(FILE_ENDINGS)
    return looks or Path(data).exists()


def load_set(name: str) -> Dataset:
    """The data set of that name, or an error that also thinks of files."""
    from fathom.data import load

    try:
        return load(name)
    except ArgumentError as error:
        if "unknown data set" in error.message:
            error.fix += "; or give the path of a CSV file"
        raise


def prepare(settings: Settings, rules: Preprocessor | None = None) -> tuple[Settings, Prepared]:
    """Load, split and preprocess; also the settings with what was chosen from the data.

    `rules` are those of a stored model; without them the training rows give them.
    """
    if is_file(settings.data):
        return _from_file(settings, rules)
    for name in ("target", "task", "delimiter", "types", "drop", "missing"):
        if getattr(settings, name):
            flag = "--type" if name == "types" else f"--{name}"
            raise ArgumentError(
                f"{flag} is for CSV files; {settings.data!r} is the name of a data set",
                fix=f"leave it out, or write ./{settings.data} for a file of that name",
            )
    return _from_name(settings, rules)


def _from_name(settings: Settings, rules: Preprocessor | None) -> tuple[Settings, Prepared]:
    from fathom.data import Preprocessor

    data = load_set(settings.data)
    images = data.image_shape is not None
    if settings.augment and not images:
        raise ArgumentError(f"--augment shifts images; {data.name} has none")
    validation, test = settings.shares(len(data))
    parts = data.split(validation, test, seed=settings.seed)
    if rules is None:
        rules = Preprocessor.for_dataset(parts.train, "scale" if images else "standardize")
    train, held, rest = (_part_of(rules, part) for part in parts)
    notes = (data.note,) if data.note else ()
    filled = settings.filled(len(data), len(parts.train), images)
    return filled, Prepared(
        data.name, settings.data, rules, train, held, rest,
        image_shape=data.image_shape, notes=notes, fingerprint=fingerprint(data),
    )  # fmt: skip


def _part_of(rules: Preprocessor, data: Dataset) -> Part:
    if not len(data):
        return Part(np.zeros((0, len(rules.feature_names_out)), np.float32), data.y, data.x)
    return Part(rules.transform_array(data.x), targets(rules, data), data.x)


def targets(rules: Preprocessor, data: Dataset) -> Array:
    """Targets in the model's terms: its class numbers, or standard units."""
    target = target_of(rules)
    if target.task != data.task:
        raise DataError(f"the model does {target.task}, but {data.name} is for {data.task}")
    if target.task == "regression":
        return np.asarray((data.y - target.mean) / target.scale, np.float32)
    if data.classes == target.classes:
        return data.y
    strange = sorted(set(data.classes) - set(target.classes))
    if strange:
        raise DataError(f"{data.name} has classes the model was not trained on: {strange}")
    return np.array([target.classes.index(name) for name in data.classes])[data.y]


def fingerprint(data: Dataset) -> str:
    """A digest of the rows, to notice when data changed after training."""
    digest = hashlib.blake2b(data.x.tobytes(), digest_size=12)
    digest.update(data.y.tobytes())
    return digest.hexdigest()


def file_fingerprint(path: str) -> str:
    """A digest of a file."""
    return hashlib.blake2b(Path(path).read_bytes(), digest_size=12).hexdigest()


def _from_file(settings: Settings, rules: Preprocessor | None) -> tuple[Settings, Prepared]:
    from fathom.data import Preprocessor

    if settings.augment:
        raise ArgumentError("--augment shifts images; a CSV file has none")
    table = read_table(settings)
    parts = table.split(*settings.shares(len(table)), seed=settings.seed)
    if rules is None:
        rules = Preprocessor.fit(parts.train)
    notes = [table.note] if table.note else []
    train, held, rest = [_part_of_table(rules, part, notes) for part in parts]
    filled = settings.filled(len(table), len(parts.train), False)
    return filled, Prepared(
        table.name, settings.data, rules, train, held, rest, notes=tuple(notes),
        fingerprint=file_fingerprint(settings.data), kind="csv",
    )  # fmt: skip


def read_table(settings: Settings) -> Table:
    """The CSV file of the settings, as a typed table."""
    from fathom.data import read_csv
    from fathom.data.csvfile import read_cells
    from fathom.data.table import MISSING

    if settings.target is None:
        header = read_cells(settings.data, settings.delimiter).header
        raise ArgumentError(
            f"--target is needed: which column of {settings.data} is to be predicted?",
            fix="one of " + ", ".join(map(repr, header)) + f", perhaps --target {_quoted(header)}",
        )
    return read_csv(
        settings.data,
        settings.target,
        task=settings.task,  # type: ignore[arg-type]
        delimiter=settings.delimiter,
        missing=(*MISSING, *settings.missing),
        types=dict(settings.types),  # type: ignore[arg-type]
        drop=settings.drop,
    )


def _quoted(header: tuple[str, ...]) -> str:
    import shlex

    usual = [name for name in header if name.lower() in ("target", "label", "class", "y")]
    return shlex.quote((usual or [header[-1]])[0])


def _part_of_table(rules: Preprocessor, table: Table, notes: list[str]) -> Part:
    if not len(table):
        kind = np.float32 if table.task == "regression" else np.int64
        return Part(np.zeros((0, len(rules.feature_names_out)), np.float32), np.zeros(0, kind))
    x = rules.transform(table)
    notes += [warning for warning in rules.warnings if warning not in notes]
    return Part(x, rules.transform_target(table), lines=table.lines)


# -- rows for a stored model ---------------------------------------------------------------------


@dataclass
class Rows:
    """Rows to predict or to evaluate, with what to say about them."""

    x: NDArray[np.float32]
    y: Array | None
    raw: NDArray[np.float32] | None
    labels: Array  # line numbers of a file, row numbers of a data set
    where: str  # "line" or "row"
    notes: list[str] = field(default_factory=list)


def rows_of(data: str, stored: Mapping[str, Any], rules: Preprocessor, need_target: bool) -> Rows:
    """All rows of a data set or a CSV file, for a model with these stored facts."""
    if not is_file(data):
        return _rows_of_set(load_set(data), rules, need_target)
    delimiter = (stored.get("settings") or {}).get("delimiter")
    table = rules.read(data, need_target=need_target, delimiter=delimiter)
    x = rules.transform(table)
    y = rules.transform_target(table) if need_target else None
    notes = [*([table.note] if table.note else []), *rules.warnings]
    return Rows(x, y, None, table.lines, "line", notes)


def _rows_of_set(data: Dataset, rules: Preprocessor, need_target: bool) -> Rows:
    try:
        x = rules.transform_array(data.x)
    except FathomError as error:
        error.message = f"{data.name} does not fit the model: {error.message}"
        raise
    y = targets(rules, data) if need_target else None
    notes = [data.note] if data.note else []
    return Rows(x, y, data.x, np.arange(len(data)), "row", notes)
