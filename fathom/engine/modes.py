"""Modes: what `apply` must heed besides its arguments. One context variable holds them all."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple


class Mode(NamedTuple):
    """What `apply` must heed besides the arguments; one context variable holds it."""

    grad: bool = True
    special: Any = None  # set while levels are open or someone watches: `levels.interpret`
    levels: tuple[tuple[int, bool], ...] = ()  # open levels, and whether grad was on outside
    watch: Any = None
    tracer: Any = None  # of `fathom.compile`, while it records a step


MODE: ContextVar[Mode] = ContextVar("fathom_mode", default=Mode())  # noqa: B039 - a Mode is frozen


def is_grad_enabled() -> bool:
    return MODE.get().grad


def tracing() -> Any:
    """The tracer of `fathom.compile` at work, or None."""
    return MODE.get().tracer


class GradMode:
    """Record operations (True) or not (False) inside the block; also a decorator.

    On a generator function the mode holds only while the generator runs, not while it waits.
    """

    def __init__(self, mode: bool) -> None:
        self._mode = bool(mode)
        self._tokens: list[Any] = []

    def __enter__(self) -> None:
        self._tokens.append(MODE.set(MODE.get()._replace(grad=self._mode)))

    def __exit__(self, *exc: object) -> None:
        MODE.reset(self._tokens.pop())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import functools
        import inspect

        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **keywords: Any) -> Iterator[Any]:
                return self._drive(function(*args, **keywords))

            return generator

        @functools.wraps(function)
        def wrapped(*args: Any, **keywords: Any) -> Any:
            with GradMode(self._mode):
                return function(*args, **keywords)

        return wrapped

    def _drive(self, inner: Any) -> Generator[Any, Any, Any]:
        """Run a generator piece by piece, each piece under our mode."""
        resume, value = inner.send, None
        try:
            while True:
                with GradMode(self._mode):
                    out = resume(value)
                try:
                    resume, value = inner.send, (yield out)
                except GeneratorExit:
                    raise
                except BaseException as error:
                    resume, value = inner.throw, error
        except StopIteration as stop:
            return stop.value
        finally:
            with GradMode(self._mode):
                inner.close()


class set_grad_enabled(GradMode):
    """Record operations (True) or not (False): from here on, or inside a `with` block.

    Also a decorator; as in PyTorch, the plain statement takes effect at once.

    >>> with set_grad_enabled(False):
    ...     is_grad_enabled()
    False
    """

    def __init__(self, mode: bool) -> None:
        super().__init__(mode)
        super().__enter__()
        self._open = False

    def __enter__(self) -> None:
        if self._open:  # the first block was opened by the constructor
            super().__enter__()
        self._open = True

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        super().__exit__()
        return super().__call__(function)


class no_grad(GradMode):
    """Do not record operations: a context manager and a decorator.

    >>> import fathom
    >>> w = fathom.tensor([1.0], requires_grad=True)
    >>> with fathom.no_grad():
    ...     (w * 2).requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__(False)


class inference_mode(GradMode):
    """PyTorch's name for `no_grad` where nothing is trained; `inference_mode(False)` records.

    >>> import fathom
    >>> w = fathom.tensor([1.0], requires_grad=True)
    >>> with fathom.inference_mode():
    ...     (w * 2).requires_grad
    False
    """

    def __init__(self, mode: bool = True) -> None:
        super().__init__(not mode)


class enable_grad(GradMode):
    """Record operations again inside `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)
