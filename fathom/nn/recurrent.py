"""Recurrent layers: plain RNN, LSTM and GRU over whole sequences, and their single steps.

Names of parameters, gates' order and defaults are PyTorch's, so that states are interchangeable.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn import init, recurrences
from fathom.nn.checks import alike, flag, positive, whole
from fathom.nn.dropout import probability
from fathom.nn.module import Module
from fathom.nn.packing import (
    PackedSequence,
    check_lengths,
    pack_padded_sequence,
    pad_packed_sequence,
)
from fathom.nn.parameter import Parameter
from fathom.ops.checks import one_of
from fathom.ops.shape import concatenate, reshape, stack, transpose

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
]


def _vector(rows: int, columns: int = 0) -> Parameter:
    return Parameter(np.empty((rows, columns) if columns else rows, np.float32))


def _fill(module: Module, hidden: int) -> None:
    bound = 1.0 / math.sqrt(hidden)
    for parameter in module._parameters.values():
        if parameter is not None:
            init.uniform_(parameter, -bound, bound)


def _zeros(like: Any, *shape: int) -> Tensor:
    return Tensor(np.zeros(shape, like.dtype))


def _both_biases(one: Any, other: Any) -> Any:
    return None if one is None else one + other


class _Recurrent(Module):
    """What the three kinds share: layers, directions, lengths, states."""

    _gates = 1  # matrices stacked in one weight
    _states = 1  # arrays that make up a state

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        self.input_size = positive(input_size, "input_size", kind)
        self.hidden_size = positive(hidden_size, "hidden_size", kind)
        self.num_layers = positive(num_layers, "num_layers", kind)
        self.bias, self.batch_first = (
            flag(bias, "bias", self),
            flag(batch_first, "batch_first", self),
        )
        self.bidirectional = flag(bidirectional, "bidirectional", self)
        self.dropout = probability(dropout, kind, "dropout")
        if not 0 <= whole(proj_size, "proj_size", self) < self.hidden_size:
            raise ArgumentError(
                f"{kind}: proj_size must be 0 (none) or less than hidden_size {hidden_size}; "
                f"received {proj_size!r}"
            )
        self.proj_size = proj_size
        self._make_parameters()

    @property
    def _width(self) -> int:
        """Numbers in one direction's output."""
        return self.proj_size or self.hidden_size

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _make_parameters(self) -> None:
        rows = self._gates * self.hidden_size
        for layer in range(self.num_layers):
            below = self.input_size if layer == 0 else self._width * len(self._suffixes)
            for suffix in self._suffixes:
                end = f"_l{layer}{suffix}"
                self.register_parameter("weight_ih" + end, _vector(rows, below))
                self.register_parameter("weight_hh" + end, _vector(rows, self._width))
                if self.bias:
                    self.register_parameter("bias_ih" + end, _vector(rows))
                    self.register_parameter("bias_hh" + end, _vector(rows))
                if self.proj_size:
                    self.register_parameter(
                        "weight_hr" + end, _vector(self.proj_size, self.hidden_size)
                    )
        _fill(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing: there is no other memory layout to bring the weights into."""

    def config(self) -> dict[str, Any]:
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
        }

    # -- forward ------------------------------------------------------------------------

    def forward(self, input: Any, hx: Any = None, lengths: TensorLike | None = None) -> Any:
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx, lengths)
        x: Any = alike(self, input, self.weight_ih_l0)
        self._check_input(x)
        single = x.ndim == 2
        if single:
            x = reshape(x, (x.shape[0], 1, x.shape[1]))
        elif self.batch_first:
            x = transpose(x, 0, 1)
        out, states = self._run(x, self._initial(x, hx, single), self._mask(x, lengths))
        if single:
            out = reshape(out, (out.shape[0], out.shape[2]))
            states = tuple(reshape(s, (s.shape[0], s.shape[2])) for s in states)
        elif self.batch_first:
            out = transpose(out, 0, 1)
        return out, (states if self._states > 1 else states[0])

    def _forward_packed(self, packed: PackedSequence, hx: Any, lengths: Any) -> Any:
        kind = type(self).__name__
        if lengths is not None:
            raise ArgumentError(f"{kind}: a packed sequence knows its lengths; leave lengths out")
        x: Any
        x, sizes = pad_packed_sequence(packed)
        self._check_input(alike(self, x, self.weight_ih_l0))
        out, states = self._run(x, self._initial(x, hx, False), self._mask(x, sizes))
        repacked = pack_padded_sequence(out, sizes, enforce_sorted=False)
        if packed.sorted_indices is not None:  # keep the order the sequence came with
            order = np.asarray(packed.sorted_indices.value())
            repacked = pack_padded_sequence(out[:, order], sizes.value()[order])
        result = PackedSequence(
            repacked.data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        return result, (states if self._states > 1 else states[0])

    def _check_input(self, x: Any) -> None:
        kind = type(self).__name__
        layout = "(n, time, {0})" if self.batch_first else "(time, n, {0})"
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            wanted = layout.format(self.input_size)
            marked = mark_axes(x.shape, [-1]) if x.ndim in (2, 3) else str(x.shape)
            raise ShapeError(
                f"{kind}: needs {wanted}, or (time, {self.input_size}) for one sequence; "
                f"received {marked}"
            )
        time = 0 if x.ndim == 2 or not self.batch_first else 1
        if x.shape[time] == 0:
            raise ShapeError(
                f"{kind}: a sequence needs at least one step; received {mark_axes(x.shape, [time])}"
            )

    def _mask(self, x: Any, lengths: Any) -> Any:
        """(time, n, 1): 1 where there is a value; None if all sequences are full."""
        if lengths is None:
            return None
        sizes = check_lengths(lengths, x.shape[1], x.shape[0], type(self).__name__)
        if (sizes == x.shape[0]).all():
            return None
        return (np.arange(x.shape[0])[:, None] < sizes).astype(x.dtype)[..., None]

    def _initial(self, x: Any, hx: Any, single: bool) -> list[list[Any]]:
        """For each array of the state, what every layer and direction starts from."""
        count, n = self.num_layers * len(self._suffixes), x.shape[1]
        widths = (self._width, self.hidden_size)[: self._states]
        if hx is None:
            return [[_zeros(x, n, w)] * count for w in widths]
        given = hx if self._states > 1 else (hx,)
        if not isinstance(given, tuple | list) or len(given) != self._states:
            raise ArgumentError(
                f"{type(self).__name__}: hx is the pair (h_0, c_0); received a {type(hx).__name__}"
            )
        starts = []
        for name, state, width in zip(("h_0", "c_0"), given, widths, strict=False):
            s: Any = alike(self, state, x)
            wanted = (count, width) if single else (count, n, width)
            if s.shape != wanted:
                axes = [i for i, (a, b) in enumerate(zip(s.shape, wanted, strict=False)) if a != b]
                raise ShapeError(
                    f"{type(self).__name__}: {name} must have shape {wanted}, (layers * "
                    f"directions, n, width); received {mark_axes(s.shape, axes)}"
                )
            starts.append([reshape(s[i], (n, width)) for i in range(count)])
        return starts

    def _run(self, x: Any, starts: list[list[Any]], mask: Any) -> tuple[Any, tuple[Any, ...]]:
        finals: list[list[Any]] = [[] for _ in range(self._states)]
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training) if self.dropout else x
            sides = []
            for suffix in self._suffixes:
                place = len(finals[0])
                start = [s[place] for s in starts]
                found = self._direction(x, start, f"_l{layer}{suffix}", mask, suffix != "")
                for collected, states in zip(finals, found, strict=True):
                    collected.append(states[0 if suffix else -1])
                sides.append(found[0])
            x = sides[0] if len(sides) == 1 else concatenate(sides, -1)
            if mask is not None:
                x = x * mask
        return x, tuple(stack(f) for f in finals)

    def _weights(self, end: str) -> tuple[Any, ...]:
        """Input and hidden weights and their biases (or None), by the end of their names."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return tuple(self._parameters.get(name + end) for name in names)

    def _direction(self, x: Any, start: Any, end: str, mask: Any, reverse: bool) -> tuple[Any, ...]:
        """The states of one layer in one direction, (time, n, width) each."""
        raise NotImplementedError


class RNN(_Recurrent):
    """h_t = tanh(x_t W_ih^T + b_ih + h_(t-1) W_hh^T + b_hh), layer on layer. Elman (1990).

    Input (time, n, input_size), (n, time, input_size) with `batch_first`, or (time, input_size).
    Returns the outputs of the last layer (time, n, directions * hidden_size) and the last states
    (layers * directions, n, hidden_size).

    hx : initial states, zeros by default.
    lengths : steps of each sequence; outputs behind the end are 0, and the last state is the one
        at the end. A `PackedSequence` does the same.
    dropout : on the outputs of every layer but the last, while training.

    >>> import fathom
    >>> out, last = RNN(3, 4, num_layers=2)(fathom.ones(5, 2, 3))
    >>> out.shape, last.shape
    ((5, 2, 4), (2, 2, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        one_of("RNN", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )
        self.nonlinearity = nonlinearity

    def _direction(self, x: Any, start: Any, end: str, mask: Any, reverse: bool) -> tuple[Any, ...]:
        wi, wh, bi, bh = self._weights(end)
        z = F.linear(x, wi, _both_biases(bi, bh))
        return (recurrences.rnn(z, start[0], wh, self.nonlinearity == "relu", mask, reverse),)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "nonlinearity": self.nonlinearity}


class LSTM(_Recurrent):
    """Long short-term memory: gates keep, write and show a cell state.

    Hochreiter & Schmidhuber (1997), with the forget gate of Gers et al. (2000):
    i, f, o = sigmoid(...), g = tanh(...), c_t = f c_(t-1) + i g, h_t = o tanh(c_t).
    Arguments and shapes as for `RNN`; the state is a pair (h, c), and `proj_size` makes h that
    wide by a matrix of its own (Sak et al., 2014).

    >>> import fathom
    >>> out, (h, c) = LSTM(3, 4, bidirectional=True)(fathom.ones(5, 2, 3), lengths=[5, 2])
    >>> out.shape, h.shape, bool((out[2:, 1] == 0).all())
    ((5, 2, 8), (2, 2, 4), True)
    """

    _gates, _states = 4, 2

    def _direction(self, x: Any, start: Any, end: str, mask: Any, reverse: bool) -> tuple[Any, ...]:
        wi, wh, bi, bh = self._weights(end)
        z = F.linear(x, wi, _both_biases(bi, bh))
        projection = self._parameters.get("weight_hr" + end)
        return recurrences.lstm(z, start[0], start[1], wh, projection, mask, reverse)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "proj_size": self.proj_size}


class GRU(_Recurrent):
    """Gated recurrent unit (Cho et al., 2014), with PyTorch's place of the reset gate.

    r, z = sigmoid(...), n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h_t = (1 - z) n + z h.
    Arguments and shapes as for `RNN`.

    >>> import fathom
    >>> out, last = GRU(3, 4, batch_first=True)(fathom.ones(2, 5, 3))
    >>> out.shape, last.shape
    ((2, 5, 4), (1, 2, 4))
    """

    _gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        )

    def _direction(self, x: Any, start: Any, end: str, mask: Any, reverse: bool) -> tuple[Any, ...]:
        wi, wh, bi, bh = self._weights(end)
        bias = _zeros(wh, wh.shape[0]) if bh is None else bh
        return (recurrences.gru(F.linear(x, wi, bi), start[0], wh, bias, mask, reverse),)


# -- single steps ----------------------------------------------------------------------------------


class _Cell(Module):
    _gates = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__()
        kind = type(self).__name__
        self.input_size = positive(input_size, "input_size", kind)
        self.hidden_size = positive(hidden_size, "hidden_size", kind)
        self.bias = flag(bias, "bias", self)
        rows = self._gates * self.hidden_size
        self.weight_ih = _vector(rows, self.input_size)
        self.weight_hh = _vector(rows, self.hidden_size)
        self.register_parameter("bias_ih", _vector(rows) if bias else None)
        self.register_parameter("bias_hh", _vector(rows) if bias else None)
        _fill(self, self.hidden_size)

    def config(self) -> dict[str, Any]:
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "bias": self.bias,
        }

    def _rows(self, input: Any, *states: Any) -> tuple[Any, ...]:
        """Input and states as (1, n, ...), one step of time; zeros for states not given."""
        kind = type(self).__name__
        x: Any = alike(self, input, self.weight_ih)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{kind}: needs (n, {self.input_size}) or ({self.input_size},); received "
                f"{mark_axes(x.shape, [-1]) if x.ndim else x.shape}"
            )
        n = 1 if x.ndim == 1 else x.shape[0]
        rows = [reshape(x, (1, n, self.input_size))]
        wanted = (*x.shape[:-1], self.hidden_size)
        for state in states:
            h = _zeros(x, *wanted) if state is None else alike(self, state, x)
            if h.shape != wanted:
                raise ShapeError(f"{kind}: the state must have shape {wanted}; received {h.shape}")
            rows.append(reshape(h, (n, self.hidden_size)))
        return (wanted, *rows)


class RNNCell(_Cell):
    """One step of `RNN`: (n, input_size) and the state (n, hidden_size) -> the next state.

    >>> import fathom
    >>> RNNCell(3, 4)(fathom.ones(2, 3)).shape
    (2, 4)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh"
    ) -> None:
        one_of("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = nonlinearity

    def forward(self, input: TensorLike, hx: TensorLike | None = None) -> Tensor:
        shape, x, h = self._rows(input, hx)
        z = F.linear(x, self.weight_ih, _both_biases(self.bias_ih, self.bias_hh))
        relu = self.nonlinearity == "relu"
        return reshape(recurrences.rnn(z, h, self.weight_hh, relu), shape)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "nonlinearity": self.nonlinearity}


class LSTMCell(_Cell):
    """One step of `LSTM`: (n, input_size) and the states (h, c) -> the next (h, c).

    >>> import fathom
    >>> h, c = LSTMCell(3, 4)(fathom.ones(2, 3))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    _gates = 4

    def forward(
        self, input: TensorLike, hx: tuple[TensorLike, TensorLike] | None = None
    ) -> tuple[Tensor, Tensor]:
        if hx is not None and (not isinstance(hx, tuple | list) or len(hx) != 2):
            raise ArgumentError(f"LSTMCell: hx is the pair (h, c); received a {type(hx).__name__}")
        shape, x, h, c = self._rows(input, *(hx or (None, None)))
        z = F.linear(x, self.weight_ih, _both_biases(self.bias_ih, self.bias_hh))
        hs, cs = recurrences.lstm(z, h, c, self.weight_hh)
        return reshape(hs, shape), reshape(cs, shape)


class GRUCell(_Cell):
    """One step of `GRU`: (n, input_size) and the state (n, hidden_size) -> the next state.

    >>> import fathom
    >>> GRUCell(3, 4)(fathom.ones(2, 3)).shape
    (2, 4)
    """

    _gates = 3

    def forward(self, input: TensorLike, hx: TensorLike | None = None) -> Tensor:
        shape, x, h = self._rows(input, hx)
        bias = self.bias_hh
        if bias is None:
            bias = _zeros(self.weight_hh, self.weight_hh.shape[0])
        z = F.linear(x, self.weight_ih, self.bias_ih)
        return reshape(recurrences.gru(z, h, self.weight_hh, bias), shape)
