"""`compile`: a function of tensors as one plan, traced at its first call and replayed after.

A call looks up the plan by the shapes and dtypes of its arguments, checks the guards, reads the
implicit inputs (parameters, buffers, optimizer state, options) anew, runs the back end, and
brings about the effects: new values of parameters and buffers, gradients, counters.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fathom.compile import numpy_backend, observe
from fathom.compile.adopted import AbsentGradient
from fathom.compile.blanks import Blanks
from fathom.compile.guards import GONE, MISS, Captured, put
from fathom.compile.passes import optimize
from fathom.compile.plan import Plan, Value
from fathom.compile.scalar import ScalarBook
from fathom.compile.trace import Tracer
from fathom.compile.traced import Traced, TraceError
from fathom.compile.trees import Place, flatten, holds_stand_ins, outputs, rebuild, stand_in
from fathom.engine.errors import ArgumentError, FathomWarning
from fathom.engine.hearing import HEARERS, hearers
from fathom.engine.modes import MODE
from fathom.engine.tensor import Removable, Tensor, mark_written, user_site

BACKENDS = ("auto", "numpy", "native")
MANY = 8  # plans after which a warning tells what changes from call to call
MOST = 64  # plans that are kept
SMALL = 1 << 12  # elements of a captured array that is compared by its contents


class RetraceWarning(FathomWarning):
    """A compiled function is traced again and again."""


def compile(
    function: Callable[..., Any] | None = None, *, backend: str = "auto"
) -> Callable[..., Any]:
    """The same function, traced once and replayed as a plan; also a decorator.

    The function may do whatever a training step does: forward, backward, an optimizer's step,
    random draws, changes of buffers. Parameters, buffers, optimizer state and options (learning
    rates) are read again at each call. Arguments are tensors or arrays, in nested tuples, lists
    or dictionaries; other arguments are part of the signature, and a new signature is traced
    anew. Raises `TraceError` where Python asks for a value (`if loss > 1`, `.item()`, `print`).

    Attributes of the result: `plans` (the latest last), `plan` (the latest), `eager` (the
    function itself), `observed` (the variants for `doctor.record`, which works as without a
    plan). Other hooks on modules make a call eager; a warning says so once.

    >>> import fathom
    >>> w = fathom.nn.Parameter([1.0, 2.0])
    >>> optimizer = fathom.optim.SGD([w], lr=0.25)
    >>> @fathom.compile
    ... def step(x):
    ...     optimizer.zero_grad()
    ...     loss = ((w - x) ** 2).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> step(fathom.tensor([0.0, 0.0])), step(fathom.tensor([0.0, 0.0]))
    (tensor(5.), tensor(1.25))
    """
    if function is None:
        return functools.partial(compile, backend=backend)
    if backend not in BACKENDS:
        raise ArgumentError(f"compile: backend is one of {BACKENDS}; received {backend!r}")
    if not callable(function):
        raise ArgumentError(f"compile: expects a function; received a {type(function).__name__}")
    return Compiled(function, backend)


class Compiled:
    """A function with its plans, one for each signature and set of guards."""

    def __init__(self, function: Callable[..., Any], backend: str = "auto") -> None:
        self.eager = function
        self.backend = backend
        self.plans: list[Plan] = []
        self.traces: list[str] = []  # why each plan was made
        self.observed: dict[Any, Any] = {}  # by what is watched: the variant that puts it out
        self._entries: dict[Any, list[Entry]] = {}
        self._quick: Any = None  # the plan that ran last, with all its tests: native.call
        self._told = False  # whether hearers know of the call under way
        functools.update_wrapper(self, function, updated=())

    @property
    def plan(self) -> Plan:
        """The plan made last."""
        if not self.plans:
            raise ArgumentError("nothing was compiled yet", fix="call the function once")
        return self.plans[-1]

    @property
    def native(self) -> bool:
        """Whether calls run native code."""
        return runs_native(self.backend)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if HEARERS and not self._told:
            return self._heard(args, keywords)
        if self._quick is not None and not keywords:
            found = self._quick(args)
            if found is not MISS:
                return found
        mode = MODE.get()
        if mode.special is not None:  # inside another trace, a transform, or under watch
            return self.eager(*args, **keywords)
        leaves: list[Any] = []
        key = (flatten(args, leaves), flatten(keywords, leaves) if keywords else (), mode.grad)
        entries = self._entries.get(key)
        if entries is not None:
            for entry in entries:
                try:
                    held = entry.holds()
                except GONE:
                    held = False
                if held and (entry.hooks.changes == Removable.changes or self._unwatched(entry)):
                    self._quick = entry.quick(key)
                    return entry.run(leaves)
        return self._first(key, leaves, args, keywords)

    def _heard(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """A call of which others hear."""
        for hearer in hearers():
            hearer.on_call(self, args, keywords)
        self._told = True
        try:
            result = self(*args, **keywords)
        finally:
            self._told = False
        for hearer in hearers():
            hearer.on_call_end(self, args, result)
        return result

    def reached(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Captured:
        """The modules, tensors and values that a call can reach."""
        return Captured(self.eager, (args, keywords), ScalarBook())

    def rehearse(
        self, reached: Captured, args: tuple[Any, ...], keywords: dict[str, Any],
        more: Iterable[Tensor] = (), keep: Iterable[Any] = (),
    ) -> None:  # fmt: skip
        """A call as it reads, for those who hear; afterwards all is as before (see `rehearse`)."""
        from fathom.compile.rehearse import rehearsal

        with rehearsal(reached, more, keep):
            self.eager(*args, **keywords)

    def _unwatched(self, entry: Entry) -> bool:
        """Whether no hook is there that a plan would pass by."""
        return entry.hooks.same()

    def _first(self, key: Any, leaves: list[Any], args: Any, keywords: Any) -> Any:
        """A call that no plan fits: watched, or the first of its kind."""
        hooks = observe.on_function(self.eager, args, keywords)
        if hooks:
            return observe.run(self, hooks, args, keywords)
        return self.trace(key, args, keywords).run(leaves)

    def epoch(self, *data: Any, batch_size: int, order: Any = None) -> Any:
        """The function on every mini-batch of `data`; its results stacked along a new first axis.

        data : tensors or arrays with the same number of rows; the function gets `batch_size`
            rows of each, the last time those that are left.
        order : numbers of the rows to take, in order (a permutation, say); all by default.

        Where the plan is native throughout, this is one call without Python in it: parameters
        and optimizer state change in place, and options (a learning rate) are those at the
        beginning.

        >>> import fathom
        >>> double = fathom.compile(lambda x: (2 * x).sum())
        >>> double.epoch(fathom.tensor([[1.0], [2.0], [3.0], [4.0]]), batch_size=2)
        tensor([ 6., 14.])
        """
        from fathom.compile.epoch import run

        return run(self, data, batch_size, order)

    def entry(self, *args: Any) -> Entry:
        """The plan for these arguments, made if there is none."""
        leaves: list[Any] = []
        key = (flatten(args, leaves), (), MODE.get().grad)
        known = self._entries.get(key, ())
        found = next((e for e in known if e.holds() and e.hooks.same_on_leaves()), None)
        return self.trace(key, args, {}) if found is None else found

    def trace(self, key: Any, args: Any, keywords: Any) -> Entry:
        """Make the plan for arguments that no plan fits."""
        known = self._entries.get(key, [])
        reason = self._reason(key, known)
        with _uncollected():
            entry = Entry(self.eager, args, keywords, self.backend)
        self._entries.setdefault(key, known).insert(0, entry)
        self.plans.append(entry.plan)
        self.traces.append(reason)
        if len(self.plans) > MOST:
            self._forget()
        if len(self.plans) == MANY:
            warnings.warn(
                f"{entry.plan.name} was traced {MANY} times: " + "; ".join(self.traces[1:]),
                RetraceWarning,
                stacklevel=3,
            )
        return entry

    def _reason(self, key: Any, known: list[Entry]) -> str:
        if known:
            return "guards failed: " + (", ".join(known[0].failed()) or "hooks on parameters")
        return f"new arguments {key[0]}" if self._entries else "first call"

    def _forget(self) -> None:
        """Drop the oldest plan."""
        oldest, self._quick = self.plans.pop(0), None
        for key, entries in list(self._entries.items()):
            entries[:] = [e for e in entries if e.plan is not oldest]
            if not entries:
                del self._entries[key]

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else functools.partial(self, owner)


class Entry:
    """One plan, ready to run: its inputs, its back end, and what to do with its results."""

    def __init__(
        self, function: Callable[..., Any], args: Any, keywords: Any, backend: str
    ) -> None:
        try:
            tracer = self._trace(function, args, keywords, Tracer())
        except AbsentGradient:
            tracer = self._trace(function, args, keywords, Tracer(strict=True))
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        self.site = (code, 0) if code is not None else user_site()
        self._bind(tracer, backend)

    def _trace(self, function: Any, args: Any, keywords: Any, tracer: Tracer) -> Tracer:
        """Run the function on stand-ins, and make the plan."""
        captured = Captured(function, (args, keywords), tracer.book)
        tracer.known.update(map(id, captured.arrays))
        values: list[Value] = []
        done = False
        with tracer.open():
            try:
                for module in captured.modules:
                    for parameter in module.parameters():
                        tracer.adopt(parameter)
                stood = stand_in((args, keywords), tracer, itertools.count())
                returned = function(*stood[0], **stood[1])
                self.tree = outputs(returned, tracer, values)
                self.changed = _changes(captured, tracer, values)
                tracer.refuse_edits()
                name = getattr(function, "__name__", type(function).__name__)
                self.plan = optimize(tracer.plan(values, name))
                done = True
            finally:
                if not done:
                    captured.restore()
        for v in self.plan.inputs():
            if v.kind == "gradient":
                tracer.book.guards[f"{tracer.book.source(v.origin, 'p')}.grad is not None"] = None
        for array in captured.arrays:  # Python may have gone by its contents
            if id(array) not in tracer.arrays and array.size <= SMALL:
                tracer.seen(array)
        self.plan.guards = list(tracer.book.guards)
        self.hooks = observe.Hooks(captured.modules, (h.tensor for h in tracer.adopted.values()))
        tracer.examples.clear()  # they are as large as everything computed
        tracer.blanks = Blanks()
        return tracer

    def _bind(self, tracer: Tracer, backend: str) -> None:
        plan, book = self.plan, tracer.book
        self.counters = plan.counters
        inputs = plan.inputs()
        scalars = [v for v in inputs if v.kind == "scalar"]
        self.book, self.texts = book, [v.origin.text for v in scalars]
        self.holds = book.guard(plan.guards)
        self.places = [
            {"argument": 0, "state": 1, "gradient": 2, "array": 3, "scalar": 4}[v.kind]
            for v in inputs
        ]
        order = {v: i for i, v in enumerate(scalars)}
        self.origins: list[Any] = [order[v] if v.kind == "scalar" else v.origin for v in inputs]
        self.native = runs_native(backend)
        self._quick: Any = MISS
        if self.native:
            from fathom.compile.native import saved
            from fathom.compile.native.call import Caller

            self.program = plan.native = saved.program(plan)
            alone = not self.changed and self.tree.__class__ is Place and self.tree.tensor
            self.caller = Caller(self.program, plan, book)
            self.run = self.caller.call(self.texts, self.rebuilt, self.site, alone)
            self.turns: Any = None  # of `epoch`, made when it is first called
        else:
            self.run = self._run
            self.scalars = book.function(self.texts)
            self.run_plan = numpy_backend.program(plan).function()
            self.copies = numpy_backend.copies(plan)

    def quick(self, key: Any) -> Any:
        """Tests and call in one, for arguments of that key; made when it is first asked for."""
        if self._quick is MISS:
            self._quick = self.caller.quick(key, self.hooks) if self.native else None
        return self._quick

    def failed(self) -> list[str]:
        """The guards that do not hold now."""

        def fails(text: str) -> bool:
            try:
                return not self.book.guard([text])()
            except GONE:
                return True

        return [text for text in self.plan.guards if fails(text)]

    def turns_to_come(self, most: int) -> int:
        """How many of the next calls may be made without Python in between."""
        if not self.native or self.changed or not self.program.repeats:
            return 0
        moving = self.book.moving(self.plan.guards, self.texts, self.plan.counters)
        return self.book.lasts(moving, most, self.plan.counters)

    def rebuilt(self, results: list[Any]) -> Any:
        """What the function returns; what it left in attributes is put there."""
        for holder, key, tree in self.changed:
            put(holder, key, rebuild(tree, results))
        return rebuild(self.tree, results)

    def _run(self, leaves: list[Any]) -> Any:
        """Read the inputs, run, and bring about the effects."""
        numbers = self.scalars()
        values = []
        for place, origin in zip(self.places, self.origins, strict=True):
            if place == 0:
                leaf = leaves[origin]
                values.append(leaf if leaf.__class__ is np.ndarray else leaf.value())
            elif place == 1:
                values.append(origin.data)
            elif place == 2:
                values.append(origin.grad.data)
            elif place == 3:
                values.append(origin)
            else:
                values.append(numbers[origin])
        with np.errstate(all="ignore"):
            results = self.run_plan(*values)
        own = [r.copy() if c else r for r, c in zip(results, self.copies, strict=True)]
        return self._finish(own)

    def _finish(self, results: list[Any]) -> Any:
        plan, n = self.plan, len(self.plan.outputs)
        m = n + len(plan.writes)
        if plan.checks:
            held = results[len(results) - len(plan.checks) :]
            for truth, (_, error) in zip(held, plan.checks, strict=True):
                if not truth:
                    raise error()  # type: ignore[operator]  # steps are for native code
        for (target, _), new in zip(plan.writes, results[n:m], strict=True):
            if isinstance(target, Tensor):
                target.data[...] = new
                mark_written(target)
            else:
                target[...] = new
        kept = iter(results[m:])
        for tensor, value in plan.gradients:
            tensor.grad = None if value is None else Tensor(next(kept))
        for counts, places in self.counters:
            for i in places:
                counts[i] += 1
        return self.rebuilt(results)


def _changes(captured: Captured, tracer: Tracer, values: list[Value]) -> list[Any]:
    """What the function has put into attributes, cells and registries: (holder, key, tree).

    A tensor in the place of one that is like it is written into that one's memory.
    """
    found = []
    for kept, before in captured.lists:
        if len(kept) != len(before) and holds_stand_ins(kept, tracer):
            raise TraceError(
                "a list outside of the compiled function keeps a value of the trace",
                fix="return the value, and append it outside",
            )
    for holder, key, before, now in captured.changes():
        if not holds_stand_ins(now, tracer):
            continue
        alike = isinstance(before, Tensor) and isinstance(now, Tensor)
        if alike and (before.shape, before.dtype) == (now.shape, now.dtype):
            tracer.lifted(before).assign(now)
        else:
            found.append((holder, key, outputs(now, tracer, values, history=True)))
        captured.put_back(holder, key, before)
    return found


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage meanwhile: a trace makes many objects and keeps nearly all of them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def runs_native(backend: str) -> bool:
    """Whether a back end of that name makes native code here."""
    return backend == "native" or (backend == "auto" and native_wanted())


def native_wanted() -> bool:
    """Whether native code is to be made: not with FATHOM_NATIVE=0, and not without llvmlite."""
    if os.environ.get("FATHOM_NATIVE", "1") == "0":
        return False
    if "llvmlite" in sys.modules:
        return True
    import importlib.util

    return importlib.util.find_spec("llvmlite") is not None


__all__ = ["Compiled", "Entry", "RetraceWarning", "Traced", "compile"]
