"""Networks side by side: what a plan's code for blocks needs of each of them, and how it runs.

A `Formation` has a lane for every network of a block. A `Block` fills the lanes: parameters,
buffers and optimizer state of each network become one array with the network as the last axis.
A lane that is left over takes the part of the last network. No lane looks at another, and each
takes the same instructions, so a network's numbers do not depend on its place or its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.compile.native.code import ARENA, FIRST
from fathom.compile.native.epoch import address
from fathom.compile.native.fleet_code import Formation
from fathom.compile.native.memory import aligned
from fathom.compile.plan import Value
from fathom.compile.replica import owner
from fathom.engine import random
from fathom.engine.errors import FathomError
from fathom.engine.random import Random
from fathom.engine.tensor import Array, Tensor

if TYPE_CHECKING:
    from fathom.compile.function import Entry

Twin = dict[int, Any]


def holds(entry: Entry, twin: Twin) -> bool:
    """Whether what a plan took for granted is so for the twin of its network, too.

    That an object is at its place (`optimizer is o3`) says nothing of a twin, and is left out.
    """
    book = entry.book
    space = {k: twin.get(id(v), v) for k, v in book.sources.items()}
    space |= {"sqrt": math.sqrt, "inf": math.inf, "nan": math.nan, "np": np}
    try:
        return all(eval(g, space) for g in entry.plan.guards if " is " not in g)  # our own text
    except (LookupError, AttributeError, ValueError, TypeError):
        return False


def own_array(value: Value, twin: Twin) -> Array:
    """What the twin has in the place of a parameter, a buffer, or a part of optimizer state."""
    origin = value.origin
    if isinstance(origin, Tensor):
        return twin.get(id(origin), origin).data
    base = owner(origin)
    other = twin.get(id(base))
    if other is None:  # the same for all
        return origin
    at = address(origin) - address(base)
    return np.ndarray(origin.shape, origin.dtype, other.data, at, origin.strides)


def shared_writes(entry: Entry, twin: Twin) -> bool:
    """Whether a step changes something that is no network's own."""
    origins = [v.origin for v in entry.program.home.values()]
    keys = [o if isinstance(o, Tensor) else owner(o) for o in origins]
    return not all(id(k) in twin for k in keys)


class Held:
    """One array of all networks: (elements, lanes), and where it comes from."""

    def __init__(self, arrays: Sequence[Array], lanes: int) -> None:
        self.arrays = arrays
        self.memory = vectors(arrays[0].size, arrays[0].dtype, lanes)
        for lane in range(lanes):
            self.memory[:, lane] = arrays[min(lane, len(arrays) - 1)].reshape(-1)

    def give_back(self) -> None:
        for lane, array in enumerate(self.arrays):
            array[...] = self.memory[:, lane].reshape(array.shape)


def vectors(size: int, dtype: Any, lanes: int) -> Array:
    """Memory for so many vectors."""
    return aligned(size * lanes * np.dtype(dtype).itemsize).view(dtype).reshape(size, lanes)


class _Streams:
    """Where the streams of all networks stand that a plan draws from."""

    def __init__(self, entry: Entry, networks: int, lanes: int) -> None:
        draws = entry.program.draws
        self.draws = [draws.twin() for _ in range(networks)] if draws.names else []
        self.tables = np.zeros((lanes, *draws.table.shape), np.int64)

    def ready(self, randoms: list[Random], count: int) -> None:
        """Note it before so many steps, and move them on."""
        for lane, (draws, own) in enumerate(zip(self.draws, randoms, strict=False)):
            with random.use(own):
                draws.ready(count)
            self.tables[lane:] = draws.table  # and what is left over


class Block:
    """Some networks, trained by the same plans.

    Parameters
    ----------
    plans : entries, with their code for blocks.
    twins : for each network, what stands for the objects of the one that was traced.
    kinds : for each network the number of its settings; equal ones share the numbers of a call.
    randoms : what each network draws from.
    """

    def __init__(
        self,
        plans: list[tuple[Entry, Formation]],
        twins: list[Twin],
        kinds: list[int],
        randoms: list[Random],
    ) -> None:
        self.plans, self.twins, self.randoms = plans, twins, randoms
        self.lanes = plans[0][1].lanes
        last = len(twins) - 1
        self.kinds = np.array([kinds[min(i, last)] for i in range(self.lanes)])
        self.held: dict[Any, Held] = {}
        self.written: dict[Any, Held] = {}
        self.memory: list[Array] = []
        self.streams = [_Streams(entry, len(twins), self.lanes) for entry, _ in plans]
        self.tables = [self._table(*plan) for plan in zip(plans, self.streams, strict=True)]

    def _table(self, plan: tuple[Entry, Formation], streams: _Streams) -> Array:
        """Where everything lies, for one plan; state is shared by all plans."""
        entry, formation = plan
        program = entry.program
        table = program.table.copy()
        table[ARENA] = self._room(formation.arena_bytes)
        homes = set(program.home.values())
        for n, value in enumerate(program.arrays):
            if value.kind == "argument":
                table[FIRST + n] = self._room(value.nbytes * self.lanes)
                continue
            origin = value.origin
            if origin is program.draws.table:
                table[FIRST + n] = address(streams.tables)
                continue
            key: Any = id(origin)
            if isinstance(origin, np.ndarray):  # a part of something, perhaps
                key = (address(origin), origin.shape, origin.dtype.str)
            held = self.held.get(key)
            if held is None:
                arrays = [own_array(value, twin) for twin in self.twins]
                held = self.held[key] = Held(arrays, self.lanes)
            if value in homes:
                self.written[key] = held
            table[FIRST + n] = address(held.memory)
        return table

    def _room(self, nbytes: int) -> int:
        self.memory.append(aligned(max(nbytes, 1)))
        return address(self.memory[-1])

    def numbers(self, plan: int, count: int) -> Array:
        """The numbers of the next steps, for every network: (count, numbers, lanes)."""
        entry, _ = self.plans[plan]
        order = entry.program.number_order()
        found = np.zeros((count, max(len(order), 1), self.lanes))
        for kind in np.unique(self.kinds) if order else ():
            own = self.kinds == kind
            twin = self.twins[min(int(own.argmax()), len(self.twins) - 1)]
            sources = {k: twin.get(id(v), v) for k, v in entry.book.sources.items()}
            counters = [(twin.get(id(c), c), places) for c, places in entry.plan.counters]
            made = entry.book.turns(entry.texts, count, counters, sources)[:, order, None]
            if own.all():
                found[...] = made
            else:
                np.copyto(found, made, where=own)
        return found

    def run(self, plan: int, numbers: Array, order: Array, data: Sequence[Array]) -> Array:
        """Steps of all networks: what they return, (steps, lanes).

        numbers : those of the steps, (steps, ..., lanes). order : (steps * batch, lanes) row
        numbers. data : all arguments of the step.
        """
        entry, formation = self.plans[plan]
        count = len(numbers)
        chosen = [data[v.origin] for v in formation.values]
        (output,) = entry.program.plan.outputs
        result = np.empty((count, output.size, self.lanes), output.dtype)
        sources = np.array([address(a) for a in chosen], np.uint64)
        targets = np.array([address(result)], np.uint64)
        self.streams[plan].ready(self.randoms, count)
        made: int = formation.function(
            address(self.tables[plan]), address(numbers), count, address(order),
            address(sources), address(targets),
        )  # fmt: skip
        if made < count:
            raise FathomError("a batch was refused by a check of the plan")
        for twin in self.twins:
            for counts, places in entry.plan.counters:
                mine = twin.get(id(counts), counts)
                for i in places:
                    mine[i] += made
        return result[:, 0]

    def give_back(self) -> None:
        """Put what was trained into the networks."""
        for held in self.written.values():
            held.give_back()
