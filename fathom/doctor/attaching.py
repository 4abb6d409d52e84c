"""Watching a script in which nothing was changed: `python -m fathom.doctor.attaching`.

The script runs as it would alone. Each optimizer that is made waits for the first training pass of
the model whose parameters it has; from there on the pair is watched, by Fathom's hooks or
PyTorch's. `fathom doctor script.py` starts it in a process of its own.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from fathom.doctor.watching import Watch, watch
from fathom.engine.modes import is_grad_enabled, tracing

Undo = Callable[[], Any]
STEP_HOOK = "register_optimizer_step_post_hook"


class Attendant:
    """Finds the pairs of model and optimizer that train in this process, and watches each.

    limit : optimizer steps (of one pair) after which the script is ended; None lets it run.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.watches: list[tuple[str, Watch]] = []
        self._waiting: list[Any] = []  # optimizers without a model
        self._strange: set[int] = set()  # modules none of them has a parameter of
        self._stray: tuple[int, Any] = (0, None)  # the largest of those, and its parameters
        self._taken: dict[int, set[int]] = {}  # place of a watch -> parameters of its optimizers
        self._open: dict[int, Watch] = {}
        self._busy = False
        self._undo: list[Undo] = []

    # -- listening --------------------------------------------------------------------------

    def __enter__(self) -> Attendant:
        self._listen_to_fathom()
        if "torch" in sys.modules:
            self._listen_to_torch()
        else:
            finder = _AfterImport("torch", self._listen_to_torch)
            sys.meta_path.insert(0, finder)
            self._undo.append(lambda: sys.meta_path.remove(finder))
        return self

    def __exit__(self, *error: Any) -> None:
        while self._undo:
            self._undo.pop()()
        for place in list(self._open):
            self._close(place)

    def _listen_to_fathom(self) -> None:
        from fathom.engine.hearing import HEARERS, Hearer
        from fathom.nn.module import Module
        from fathom.optim import Optimizer
        from fathom.train.trainer import Trainer

        attendant = self

        class Ear(Hearer):
            def on_call(self, compiled: Any, args: Any, keywords: Any) -> None:
                _safely(attendant.compiled_call, compiled, args, keywords)

            def on_step_end(self, optimizer: Any) -> None:
                _safely(attendant.stepped, optimizer)

        ear = Ear()
        HEARERS.append(ear)
        self._undo.append(lambda: HEARERS.remove(ear))
        self._before(Module, "__call__", self._fathom_forward)
        self._after(Optimizer, "__init__", self.made)
        self._before(Trainer, "run", self._fit)

    def _listen_to_torch(self) -> None:
        import torch

        self._after(torch.optim.Optimizer, "__init__", self.made)
        self._before(torch.nn.Module, "__call__", functools.partial(self._torch_forward, torch))
        register = importlib.import_module("torch.optim.optimizer").__dict__[STEP_HOOK]
        handle = register(lambda optimizer, args, keywords: _safely(self.stepped, optimizer))
        self._undo.append(handle.remove)

    def _before(self, owner: Any, name: str, act: Callable[[Any], None]) -> None:
        self._patch(owner, name, act, first=True)

    def _after(self, owner: Any, name: str, act: Callable[[Any], None]) -> None:
        self._patch(owner, name, act, first=False)

    def _patch(self, owner: Any, name: str, act: Callable[[Any], None], first: bool) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def call(own: Any, *args: Any, **keywords: Any) -> Any:
            if first:
                _safely(act, own)
            result = original(own, *args, **keywords)
            if not first:
                _safely(act, own)
            return result

        setattr(owner, name, call)
        self._undo.append(lambda: setattr(owner, name, original))

    # -- what it hears ------------------------------------------------------------------------

    def made(self, optimizer: Any) -> None:
        """An optimizer was made."""
        if not self._busy:
            self._waiting.append(optimizer)
            self._strange.clear()
            self._stray = (0, None)

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has made a step. One that has nothing of the model that is trained goes
        with it nevertheless: that is a fault to be told."""
        if any(optimizer is one for one in self._waiting) and self._stray[1] is not None:
            self._attach(self._stray[1], [optimizer])

    def _fathom_forward(self, module: Any) -> None:
        if self._waiting and is_grad_enabled() and tracing() is None:
            self.called(module)

    def _torch_forward(self, torch: Any, module: Any) -> None:
        if self._waiting and torch.is_grad_enabled():
            self.called(module)

    def _fit(self, trainer: Any) -> None:
        """Fathom's `fit`: its own callback sees more, validation losses too."""
        from fathom.doctor.callback import Doctor

        self._waiting = [o for o in self._waiting if o is not trainer.optimizer]
        if any(isinstance(c, Doctor) for c in trainer.callbacks):
            return
        self._close_those_of({id(p) for p in trainer.model.parameters()})
        attendant = self

        class Attending(Doctor):
            def on_train_begin(self, trainer: Any) -> None:
                super().on_train_begin(trainer)
                if self.watch is not None:
                    attendant.watches.append((_name(trainer.model), self.watch))

            def on_batch_end(self, trainer: Any, batch: int, loss: float) -> None:
                if attendant.limit is not None and trainer.steps >= attendant.limit:
                    raise SystemExit(0)

        trainer.callbacks = [*trainer.callbacks, Attending(quiet=True)]

    def compiled_call(self, compiled: Any, args: Any, keywords: Any) -> None:
        """A compiled step is about to run: the model is whichever has the parameters."""
        for optimizer in list(self._waiting):
            seen = self._attach(_cover(_ids_of(optimizer), optimizer), [optimizer])
            if seen is not None:
                seen.adapter.on_call(compiled, args, keywords)

    def called(self, module: Any) -> None:
        """A model is about to be called, with gradients, and there are optimizers that wait."""
        if self._busy or id(module) in self._strange:
            return
        own = {id(p) for p in module.parameters()}
        mine: dict[int, tuple[Any, list[Any]]] = {}
        for optimizer in self._waiting:
            wanted = _ids_of(optimizer)
            if wanted & own:
                model = module if wanted <= own else _cover(wanted, optimizer) or module
                mine.setdefault(id(model), (model, []))[1].append(optimizer)
        if not mine and own:
            self._strange.add(id(module))
            self._stray = max(self._stray, (len(own), module), key=lambda pair: pair[0])
        for model, optimizers in mine.values():
            self._attach(model, optimizers)

    # -- watching -----------------------------------------------------------------------------

    def _attach(self, model: Any, optimizers: list[Any]) -> Watch | None:
        """Watch a model with its optimizer, or with several that train parts of it."""
        self._waiting = [o for o in self._waiting if not any(o is other for other in optimizers)]
        if model is None:
            return None
        kept = {frozenset(_ids_of(o)): o for o in optimizers}  # of equal ones the latest steps
        ids = set().union(*kept)
        self._close_those_of(ids)
        self._busy = True
        try:
            seen = self._watch(model, list(kept.values()))
            seen.__enter__()
        except Exception as error:  # what cannot be watched runs as it is
            print(f"fathom doctor: {_name(model)} is not watched: {error}", file=sys.stderr)
            return None
        finally:
            self._busy = False
        place = len(self.watches)
        self.watches.append((_name(model), seen))
        self._taken[place], self._open[place] = ids, seen
        return seen

    def _watch(self, model: Any, optimizers: list[Any]) -> Watch:
        seen = watch(model, optimizers, quiet=True)
        if self.limit is not None:
            limit, stepped = self.limit, seen.stepped

            def counted(step: int, sample: Any) -> None:
                stepped(step, sample)
                if step + 1 >= limit:
                    raise SystemExit(0)

            seen.stepped = counted  # type: ignore[method-assign]
        return seen

    def _close_those_of(self, parameters: set[int]) -> None:
        """Others train these parameters from now on."""
        for place in [i for i, taken in self._taken.items() if taken & parameters]:
            self._close(place)

    def _close(self, place: int) -> None:
        self._taken.pop(place, None)
        seen = self._open.pop(place, None)
        if seen is not None:
            seen.__exit__(None, None, None)


def _safely(act: Callable[..., Any], *arguments: Any) -> None:
    """What goes wrong in here is no business of the script's."""
    try:
        act(*arguments)
    except Exception as error:
        print(f"fathom doctor: {type(error).__name__}: {error}", file=sys.stderr)


def _ids_of(optimizer: Any) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def _cover(wanted: set[int], optimizer: Any) -> Any:
    """The smallest living model with all these parameters; or a list of those that share them."""
    base, gather = _kinds(optimizer)
    models = [m for m in gc.get_objects() if issubclass(type(m), base)]
    owned = [(m, ids) for m in models if (ids := {id(p) for p in m.parameters()})]
    whole = [(len(ids), -len(list(m.modules())), i) for i, (m, ids) in enumerate(owned)
             if wanted <= ids]  # fmt: skip
    if whole:
        return owned[min(whole)[2]][0]
    parts = [(m, ids) for m, ids in owned if ids <= wanted]
    inner = {id(child) for m, _ in parts for child in m.modules() if child is not m}
    tops = [m for m, _ in parts if id(m) not in inner]
    return gather(tops) if tops else None


def _kinds(optimizer: Any) -> tuple[Any, Callable[[list[Any]], Any]]:
    """The class of models an optimizer goes with, and what puts several in one."""
    from fathom import nn, optim

    if isinstance(optimizer, optim.Optimizer):
        return nn.Module, nn.ModuleList
    torch = sys.modules["torch"]
    return torch.nn.Module, torch.nn.ModuleList


def _name(model: Any) -> str:
    """The name it has in the script, or else that of its class."""
    for name, value in vars(sys.modules["__main__"]).items():
        if value is model and not name.startswith("_"):
            return name
    return type(model).__name__


class _AfterImport(MetaPathFinder):
    """Calls `act` when a package has been imported."""

    def __init__(self, package: str, act: Callable[[], None]) -> None:
        self.package, self.act, self.busy = package, act, False

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.package or self.busy:
            return None
        self.busy = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.busy = False
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                run(module)
                _safely(self.act)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


# -- the process ---------------------------------------------------------------------------------


def run(script: str, words: Sequence[str], options: dict[str, Any]) -> int:
    """Run a script with its arguments, watched; write what was found; the script's exit code.

    options : "out" (the JSON file to write), "report" (an HTML or JSON report of each pair),
    "treat", "probes", "steps".
    """
    with Attendant(options.get("steps")) as attendant:
        code = _script(script, words)
    runs = list(attendant.watches)
    for _, seen in runs:
        with contextlib.suppress(KeyboardInterrupt):
            _examine_further(seen, options)
    reports = _save(runs, options.get("report"))
    found = {"exit_code": code, "reports": reports, "runs": [told(n, seen) for n, seen in runs]}
    Path(options["out"]).write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
    return code


def _script(script: str, words: Sequence[str]) -> int:
    """Run it as `python script words...` would; its exit code."""
    sys.argv = [script, *words]
    sys.path[0] = str(Path(script).resolve().parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        _print_own(error, script)
        return 1
    finally:
        sys.stdout.flush()
    return 0


def _print_own(error: BaseException, script: str) -> None:
    """The traceback from the script's first line on."""
    frames = error.__traceback__
    wanted = os.path.abspath(script)
    step = frames
    while step is not None and os.path.abspath(step.tb_frame.f_code.co_filename) != wanted:
        step = step.tb_next
    traceback.print_exception(type(error), error, step or frames)


def _examine_further(seen: Watch, options: dict[str, Any]) -> None:
    if options.get("probes"):
        seen.probe()
    if options.get("treat"):
        for finding in [f for f in seen.findings if f.severity != "advice"]:
            seen.treat(finding)


def told(name: str, seen: Watch) -> dict[str, Any]:
    """What was found in a run, with the lines that tell it."""
    from fathom.doctor.report import plain

    return {"model": name, "lines": plain.as_lines(seen), "found": seen.to_dict()}


def _save(runs: list[tuple[str, Watch]], path: str | None) -> list[str]:
    """A report of each run: OUT.html, OUT-2.html, ..."""
    from fathom.doctor.report import save

    if path is None:
        return []
    place = Path(path)
    made = []
    for number, (name, seen) in enumerate(runs, 1):
        own = place if number == 1 else place.with_name(f"{place.stem}-{number}{place.suffix}")
        made.append(str(save(seen, own, title=f"Fathom doctor: {name}")))
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """OPTIONS (as JSON) SCRIPT [ARGUMENT ...]."""
    options, script, *words = sys.argv[1:] if arguments is None else arguments
    return run(script, words, json.loads(options))


__all__ = ["Attendant", "main", "run", "told"]

if __name__ == "__main__":
    sys.exit(main())
