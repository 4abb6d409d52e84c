"""Named random streams, counter-based: the same seed and name give the same numbers.

A `Random` owns one seed. Each of its streams ("init", "shuffle", "dropout", ...) is a key of
the Philox generator (Salmon et al., 2011); draw number *i* of a stream starts at counter *i*.
So a draw depends on seed, name and index alone: evaluating a model, adding a callback or
resuming from a checkpoint cannot shift what another stream yields.

There is no global generator. The *current* `Random` is a context variable: `with seed(0): ...`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fathom.engine.errors import ArgumentError
from fathom.engine.modes import tracing

Shape = Sequence[int]


class Stream:
    """One named sequence of draws; `index` counts them and is all its state.

    >>> stream = Random(0).stream("init")
    >>> first = stream.normal((2,))
    >>> stream.index
    1
    >>> stream.index = 0
    >>> bool((stream.normal((2,)) == first).all())
    True
    """

    def __init__(self, key: NDArray[np.uint64], name: str) -> None:
        self.key = key
        self.name = name
        self.index = 0
        self._philox = np.random.Philox(key=key)
        self._generator = np.random.Generator(self._philox)
        self._start: Any = dict(self._philox.state)  # before anything was drawn

    def next(self) -> np.random.Generator:
        """The NumPy generator of the next draw; use it before calling `next` again."""
        if (tracer := tracing()) is not None:
            tracer.refuse_generator()
        self._start["state"]["counter"][:] = (0, 0, self.index, 0)
        self._philox.state = self._start
        self.index += 1
        return self._generator

    def uniform(
        self, shape: Shape = (), low: float = 0.0, high: float = 1.0, dtype: DTypeLike = np.float32
    ) -> NDArray[Any]:
        """Numbers spread evenly over [low, high)."""
        if (tracer := tracing()) is not None:
            return tracer.draw(self, "uniform", shape=shape, low=low, high=high, dtype=dtype)
        draw = self.next().random(tuple(shape), dtype=_float(dtype))
        return np.asarray(low + (high - low) * draw, dtype)

    def normal(
        self, shape: Shape = (), mean: float = 0.0, std: float = 1.0, dtype: DTypeLike = np.float32
    ) -> NDArray[Any]:
        """Normally distributed numbers."""
        if (tracer := tracing()) is not None:
            return tracer.draw(self, "normal", shape=shape, mean=mean, std=std, dtype=dtype)
        draw = self.next().standard_normal(tuple(shape), dtype=_float(dtype))
        return np.asarray(mean + std * draw, dtype)

    def integers(self, low: int, high: int, shape: Shape = ()) -> NDArray[np.int64]:
        """Whole numbers from low (included) to high (excluded)."""
        if (tracer := tracing()) is not None:
            return tracer.draw(self, "integers", low=low, high=high, shape=shape)
        return np.asarray(self.next().integers(low, high, tuple(shape)), np.int64)

    def permutation(self, n: int) -> NDArray[np.int64]:
        """The numbers 0 ... n-1 in random order."""
        if (tracer := tracing()) is not None:
            return tracer.draw(self, "permutation", n=n)
        return self.next().permutation(n)

    def bernoulli(self, p: float, shape: Shape) -> NDArray[np.bool_]:
        """True with probability p."""
        if (tracer := tracing()) is not None:
            return tracer.draw(self, "bernoulli", p=p, shape=shape)
        return self.next().random(tuple(shape), dtype=np.float32) < p


class Random:
    """A seed and its named streams.

    >>> rng = Random(7)
    >>> rng.stream("shuffle").permutation(4).tolist() == (
    ...     Random(7).stream("shuffle").permutation(4).tolist())
    True
    """

    def __init__(self, seed: int | None = None) -> None:
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> 1)
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ArgumentError(f"seed must be a whole number >= 0; received {seed!r}")
        self.seed = int(seed)
        self._streams: dict[str, Stream] = {}

    def stream(self, name: str) -> Stream:
        """The stream of that name, made at its first use."""
        if name not in self._streams:
            digest = hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=16).digest()
            self._streams[name] = Stream(np.frombuffer(digest, np.uint64), name)
        return self._streams[name]

    def streams(self) -> dict[Stream, int]:
        """All streams and where they stand."""
        return {stream: stream.index for stream in self._streams.values()}

    def rewind(self, streams: Mapping[Stream, int]) -> None:
        """Put all streams where they stood; those that are new are forgotten."""
        self._streams = {stream.name: stream for stream in streams}
        for stream, index in streams.items():
            stream.index = index

    def spawn(self, name: str) -> Random:
        """An independent `Random` for a part of the work, fixed by seed and name."""
        digest = hashlib.blake2b(f"{self.seed}/spawn/{name}".encode(), digest_size=8).digest()
        return Random(int.from_bytes(digest, "little") >> 1)

    def state_dict(self) -> dict[str, Any]:
        """Seed and position of every stream, as plain JSON values."""
        return {
            "seed": self.seed,
            "streams": {name: stream.index for name, stream in self._streams.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state: the next draws are the ones that would have come."""
        self.seed = int(state["seed"])
        self._streams = {}
        for name, index in state["streams"].items():
            self.stream(name).index = int(index)

    def __repr__(self) -> str:
        positions = "".join(f", {name}@{s.index}" for name, s in self._streams.items())
        return f"Random(seed={self.seed}{positions})"


_current: ContextVar[Random] = ContextVar("fathom_random")


def current() -> Random:
    """The `Random` in force here; one seeded by the operating system if none was set."""
    rng = _current.get(None)
    if rng is None:
        rng = Random()
        _current.set(rng)
    return rng


@contextmanager
def use(rng: Random) -> Iterator[Random]:
    """Draw from `rng` inside the block."""
    token = _current.set(rng)
    try:
        yield rng
    finally:
        _current.reset(token)


@contextmanager
def seed(value: int) -> Iterator[Random]:
    """Draw from a fresh `Random(value)` inside the block.

    >>> with seed(0):
    ...     a = current().stream("init").uniform((3,))
    >>> with seed(0):
    ...     b = current().stream("init").uniform((3,))
    >>> bool((a == b).all())
    True
    """
    with use(Random(value)) as rng:
        yield rng


def manual_seed(value: int) -> Random:
    """Make `Random(value)` the current one from here on (PyTorch's name for it)."""
    rng = Random(value)
    _current.set(rng)
    return rng


def _float(dtype: DTypeLike) -> type[np.float32] | type[np.float64]:
    return np.float64 if np.dtype(dtype) == np.float64 else np.float32
