"""Specification files: the options of `fathom train` as TOML or JSON."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import click.core

from fathom.engine.errors import ArgumentError, DataError, MissingFileError, OutputError, suggest
from fathom.nn.named import spelled

if TYPE_CHECKING:
    from fathom.cli.settings import Settings

ENDINGS = (".toml", ".json")
WITH_OPTIONS = ("activation", "init", "loss", "optimizer", "penalty", "schedule")
NO_KEYS = ("resume", "quiet", "as_json", "save_spec", "help", "spec")


def is_spec(data: str) -> bool:
    """Whether DATA is a specification file.

    >>> is_spec("run.toml"), is_spec("digits")
    (True, False)
    """
    return data.lower().endswith(ENDINGS)


def read(path: str, params: Iterable[click.Parameter], need_data: bool = True) -> dict[str, Any]:
    """The file's values by the names of these parameters, each of the type of its option."""
    known = {p.name: p for p in params if p.name and p.name not in NO_KEYS}
    found: dict[str, Any] = {}
    for key, value in parsed(path).items():
        name = {"type": "types"}.get(key, key.replace("-", "_"))
        if name not in known:
            keys = [one.replace("types", "type") for one in known]
            raise ArgumentError(f"{path}: unknown key {key!r}", fix=suggest(name, keys))
        if name in found:
            raise ArgumentError(f"{path}: {key!r} is there in two spellings")
        if value is not None:
            found[name] = _converted(known[name], value, f"{path}: {key}")
    if (need_data and "data" not in found) or is_spec(found.get("data", "")):
        raise ArgumentError(
            f"{path}: the key 'data' is to be the name of a data set, or the path of a CSV file",
            fix='data = "digits"',
        )
    return found


def gather(
    ctx: click.Context, values: dict[str, Any], params: Iterable[click.Parameter]
) -> tuple[dict[str, Any], set[str]]:
    """The options typed and those of the specification file, and the names of all of these.

    The file is that of --spec, or DATA itself. Options typed go before it. `params` are those of
    `fathom train`, whose names it may use; those the command does not have are kept as well.
    """
    said = {
        name
        for name in ctx.params
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    data, path = values.get("data"), values.pop("spec", None)
    if path is not None and not is_spec(str(path)):
        raise ArgumentError(f"--spec reads .toml and .json files; received {str(path)!r}")
    if data is not None and is_spec(data):
        if path is not None:
            raise ArgumentError(f"two specification files: {data} and --spec {path}")
        path = data
        said.discard("data")
    if path is None:
        if data is None:
            argument = next(p for p in ctx.command.params if p.name == "data")
            raise click.MissingParameter("Or name a file with --spec.", ctx, argument)
        return values, said
    found = read(str(path), params, "data" not in said)
    return {**values, **{k: v for k, v in found.items() if k not in said}}, said | set(found)


def write(path: Path, settings: Settings) -> None:
    """The settings as JSON that `fathom train` reads; what was not chosen is left out."""
    values = {k: v for k, v in settings.to_dict().items() if v is not None and v != ()}
    if settings.layers == ():
        values["layers"] = []
    if "types" in values:
        values["type"] = dict(values.pop("types"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def claim(path: Path | None) -> None:
    """Be sure, before a long run, that a specification can be written there."""
    if path is None:
        return
    if path.suffix.lower() != ".json":
        raise ArgumentError(
            f"--save-spec writes JSON; received {str(path)!r}",
            fix=f"--save-spec {path.stem or 'run'}.json",
        )
    there = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}")


def parsed(path: str) -> Mapping[str, Any]:
    """Keys and values of a TOML or JSON file."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        found = tomllib.loads(text) if path.lower().endswith(".toml") else json.loads(text)
    except FileNotFoundError:
        raise MissingFileError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # also of TOML, JSON and UTF-8
        kind = "TOML" if path.lower().endswith(".toml") else "JSON"
        raise DataError(f"{path} is not {kind}: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected keys and values, such as " + '{"data": "digits"}')
    return found


def _converted(param: click.Parameter, value: Any, where: str) -> Any:
    """A value of the file as the option would give it."""
    try:
        if param.name == "layers":
            return param.type.convert(_widths(value), param, None)
        if param.name == "types":
            return tuple(_pair(param, one) for one in _items(value))
        if param.name in WITH_OPTIONS:
            return spelled(value, param.name) if isinstance(value, dict) else _typed(param, value)
        if param.name == "transform":
            some = [value] if isinstance(value, dict) else _items(value)
            return tuple(spelled(one) if isinstance(one, dict) else _typed(param, one)
                         for one in some)  # fmt: skip
        if param.name == "class_weight" and isinstance(value, list):
            return ",".join(map(str, value))
        if param.multiple:
            return tuple(_typed(param, one) for one in _items(value))
        return _typed(param, value)
    except ArgumentError as error:
        error.message = f"{where}: {error.message}"
        raise
    except click.BadParameter as error:
        raise ArgumentError(f"{where}: {error.message}") from None
    except TypeError as error:
        raise ArgumentError(f"{where}: expected {error}; received {value!r}") from None


def _widths(value: Any) -> Any:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return value


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.items())
    return value if isinstance(value, list) else [value]


def _pair(param: click.Parameter, value: Any) -> tuple[str, str]:
    if isinstance(value, list | tuple):
        if len(value) != 2 or not all(isinstance(one, str) for one in value):
            raise TypeError("column and kind, both in quotes")
        return value[0], value[1]
    pair: tuple[str, str] = param.type.convert(_typed(param, value), param, None)
    return pair


def _typed(param: click.Parameter, value: Any) -> Any:
    """The value if it has the type of the option; `TypeError` says what was expected."""
    kind = param.type
    flag = isinstance(value, bool)
    if getattr(param, "is_flag", False):
        if not flag:
            raise TypeError("true or false")
        return value
    if kind is click.INT:
        if flag or not isinstance(value, int):
            raise TypeError("a whole number")
        return value
    if kind is click.FLOAT:
        if flag or not isinstance(value, int | float):
            raise TypeError("a number")
        return float(value)
    if not isinstance(value, str):
        raise TypeError("a text in quotes")
    return kind.convert(value, param, None)
