"""No layer without its tests: the harness for each, PyTorch's answer wherever it has the layer.

The test modules are imported, and what their test functions name is read off: the values they
are parametrized with (names, classes, lambdas) and their own code.
"""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fathom import nn

TESTS = Path(__file__).parents[1]
LAYERS = sorted(
    name
    for name in nn.__all__
    if inspect.isclass(getattr(nn, name)) and issubclass(getattr(nn, name), nn.Module)
)
WITHOUT_FORWARD = {"Module", "ModuleDict", "ModuleList"}  # nothing to call


def names_in(value: Any) -> set[str]:
    """Every name that a value of a parametrization, or a piece of code, may stand for."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, type):
        return {value.__name__}
    if isinstance(value, types.FunctionType):
        return names_in(value.__code__)
    if isinstance(value, types.CodeType):
        return {*value.co_names} | names_in(value.co_consts)
    if isinstance(value, dict):
        return names_in([*value, *value.values()])
    if isinstance(value, list | tuple | set | frozenset):
        return {name for part in value for name in names_in(part)}
    return set()


def functions_of(module: types.ModuleType) -> Iterator[tuple[Any, list[Any]]]:
    """Functions and methods that pytest runs, each with its marks."""
    for holder in (module, *(v for n, v in vars(module).items() if n.startswith("Test"))):
        for name, function in vars(holder).items():
            if name.startswith("test_") and isinstance(function, types.FunctionType):
                outer = getattr(holder, "pytestmark", []) if holder is not module else []
                yield function, [*getattr(function, "pytestmark", []), *outer]


def named_by(function: Any, module: types.ModuleType) -> set[str]:
    """What a function names, and what the functions of its module name that it calls."""
    found, queue = set(), [function]
    for part in queue:  # grows as we go
        new = names_in(part) - found
        found |= new
        own = (vars(module).get(name) for name in new)
        queue += [f for f in own if getattr(f, "__module__", None) == module.__name__]
    return found


def names_used(folder: str, needs: str) -> set[str]:
    """What the test functions of a folder name, in modules that have `needs`, and use it."""
    found: set[str] = set()
    for path in sorted((TESTS / folder).glob("test_*.py")):
        module = importlib.import_module(f"tests.{folder.replace('/', '.')}.{path.stem}")
        if not hasattr(module, needs):
            continue
        for function, marks in functions_of(module):
            own = named_by(function, module)
            if needs in own or needs == "torch":
                found |= own | {n for m in marks for n in names_in(m.args)}
    return found


def test_every_layer_goes_through_the_harness() -> None:
    missing = set(LAYERS) - WITHOUT_FORWARD - names_used("unit/nn", "run_layer_test")
    assert not missing, f"no call of run_layer_test for {sorted(missing)}"


def test_every_layer_of_pytorch_is_compared_with_it() -> None:
    torch = pytest.importorskip("torch")
    shared = {name for name in LAYERS if hasattr(torch.nn, name)} - {"Module"}
    missing = shared - names_used("oracles", "torch")
    assert not missing, f"no comparison with PyTorch for {sorted(missing)}"


def test_layers_have_the_arguments_of_pytorch() -> None:
    """Each argument of a layer of PyTorch is there, with its default, but those listed here."""
    torch = pytest.importorskip("torch")
    left_out = {
        "device", "dtype", "size_average", "reduce", "_weight", "_freeze", "sparse",
        "process_group", "custom_encoder", "custom_decoder", "mask_check",
        "enable_nested_tensor", "args", "kwargs", "inplace", "min_value", "max_value",
    }  # fmt: skip
    other = {  # Softplus is exact without a threshold; where PyTorch guesses, the last axis
        "Softplus": "threshold", "Softmax": "dim", "LogSoftmax": "dim", "Softmin": "dim"
    }  # fmt: skip
    for name in LAYERS:
        if not hasattr(torch.nn, name) or name in WITHOUT_FORWARD:
            continue
        theirs = inspect.signature(getattr(torch.nn, name)).parameters
        ours = inspect.signature(getattr(nn, name)).parameters
        missing = theirs.keys() - ours.keys() - left_out
        assert not missing or "args" in theirs, f"{name} lacks {sorted(missing)}"
        for key in theirs.keys() & ours.keys() - {other.get(name), "activation"}:
            assert ours[key].default == theirs[key].default, f"{name}: default of {key}"


@pytest.mark.parametrize("name", LAYERS)
def test_help_shows_the_arguments(name: str) -> None:
    """Signatures are written out (no *args, **kwargs), and every layer says what it does."""
    kind = getattr(nn, name)
    assert inspect.getdoc(kind) and kind.__doc__, f"{name} has no docstring"
    kinds = {p.kind for p in inspect.signature(kind).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    if name not in ("Sequential", "ModuleList", "ModuleDict"):
        assert inspect.Parameter.VAR_POSITIONAL not in kinds
