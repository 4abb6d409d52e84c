"""Fathom's engine once more, in one file: read it from top to bottom, then read the real one.

A tensor remembers the operation that made it. `backward` walks those memories from the newest
to the oldest and hands each operation the gradient of its output; the operation's rule turns it
into gradients of its inputs. That is all there is to training a neural network.

The names are those of `fathom/engine`; second derivatives, forward mode, hooks and errors that
teach are missing so that the idea can be seen. `python docs/mini.py` trains a small network.
"""

import heapq
import itertools
from contextlib import contextmanager

import numpy as np

clock = itertools.count()  # every operation gets a number: later ones have larger numbers
GRAD = [True]  # whether operations are remembered


# -- 1. A tensor: an array, perhaps a gradient, and where it came from --------------------------


class Tensor:
    __array_ufunc__ = None  # so that `array + tensor` asks the tensor

    def __init__(self, data, requires_grad=False, node=None):
        self.data = np.asarray(data, np.float64)
        self.requires_grad = requires_grad
        self.grad = None  # filled by `backward`, on leaves only
        self.node = node  # None for a leaf: a tensor nobody computed

    shape = property(lambda self: self.data.shape)

    def item(self):
        return self.data.item()

    def tolist(self):
        return self.data.tolist()

    def zero_grad(self):
        self.grad = None

    def backward(self, gradient=None):
        backward(self, np.ones(self.shape) if gradient is None else np.asarray(gradient))


# -- 2. A node: one remembered operation --------------------------------------------------------


class Node:
    def __init__(self, primitive, parents, saved, out, params):
        self.primitive = primitive
        self.parents = parents  # the tensors it was computed from; None where no gradient goes
        self.saved, self.out, self.params = saved, out, params  # what its rule may look at
        self.sequence = next(clock)


# -- 3. A primitive: how to compute, and how to differentiate -----------------------------------

TABLE = {}


class Primitive:
    def __init__(self, name, form, forward, rules):
        self.name, self.form, self.forward, self.rules = name, form, forward, rules
        TABLE[name] = self

    def __call__(self, *args, **params):
        return apply(self, *args, **params)

    def pullback(self, node, g):
        """The gradient of the output, carried back to each input."""
        out, ins, params = node.out, node.saved, node.params
        if self.form == "elementwise":  # the rule is the slope: g times f'(x)
            return [g * (rule(out, *ins) if callable(rule) else rule) for rule in self.rules]
        return [rule(g, out, *ins, **params) for rule in self.rules]  # the rule does it all


def elementwise(name, forward, partials):
    """Each number on its own: declare the slope with respect to each input."""
    return Primitive(name, "elementwise", forward, partials)


def linear(name, forward, transpose):
    """Linear in each input: declare the transposed map, from output back to input."""
    return Primitive(name, "linear", forward, transpose)


def general(name, forward, vjp):
    """Anything else: declare the gradient of each input, given that of the output."""
    return Primitive(name, "general", forward, vjp)


def apply(primitive, *args, **params):
    """Compute, and remember if somebody may ask for a gradient."""
    tensors = [a if isinstance(a, Tensor) else Tensor(a) for a in args]
    values = [t.data for t in tensors]
    out = Tensor(primitive.forward(*values, **params))
    if GRAD[-1] and any(t.requires_grad for t in tensors):
        parents = [t if t.requires_grad else None for t in tensors]
        out.requires_grad = True
        out.node = Node(primitive, parents, values, out.data, params)
    return out


@contextmanager
def no_grad():
    """Inside, nothing is remembered: for updating weights, and for using a trained network."""
    GRAD.append(False)
    try:
        yield
    finally:
        GRAD.pop()


# -- 4. Backward: newest node first, so that each has heard from everyone who used it -----------


def backward(root, gradient):
    """Add d(root)/d(leaf), weighted by `gradient`, to the `grad` of every leaf."""
    pending, queue = {}, []  # gradients under way, and the nodes that wait for their turn

    def give(tensor, g):
        g = sum_to(g, tensor.shape)
        if tensor.node is None:  # a leaf keeps what it gets; each use of it adds a share
            tensor.grad = Tensor(g.copy() if tensor.grad is None else tensor.grad.data + g)
        elif tensor.node in pending:
            pending[tensor.node] = pending[tensor.node] + g
        else:
            pending[tensor.node] = g
            heapq.heappush(queue, (-tensor.node.sequence, tensor.node))

    give(root, gradient)
    while queue:  # a loop, not a recursion: a network may be very deep
        node = heapq.heappop(queue)[1]
        gradients = node.primitive.pullback(node, pending.pop(node))
        for parent, g in zip(node.parents, gradients, strict=True):
            if parent is not None:
                give(parent, g)


def sum_to(g, shape):
    """Undo broadcasting: what was copied in the forward pass is added up in the backward pass."""
    lead = g.ndim - len(shape)
    spread = tuple(i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] > 1)
    return g.sum(axis=(*range(lead), *spread), keepdims=True).reshape(shape)


# -- 5. The operations: one line of mathematics each --------------------------------------------

add = elementwise("add", np.add, [1, 1])
sub = elementwise("sub", np.subtract, [1, -1])
mul = elementwise("mul", np.multiply, [lambda out, x, y: y, lambda out, x, y: x])
div = elementwise("div", np.divide, [lambda out, x, y: 1 / y, lambda out, x, y: -out / y])
exp = elementwise("exp", np.exp, [lambda out, x: out])
log = elementwise("log", np.log, [lambda out, x: 1 / x])
tanh = elementwise("tanh", np.tanh, [lambda out, x: 1 - out * out])
relu = elementwise("relu", lambda x: np.maximum(x, 0), [lambda out, x: out > 0])
sigmoid = elementwise("sigmoid", lambda x: 1 / (1 + np.exp(-x)), [lambda out, x: out * (1 - out)])
reshape = linear("reshape", np.reshape, [lambda g, out, x, shape: g.reshape(x.shape)])
permute = linear("permute", np.transpose, [lambda g, out, x: g.T])
total = linear("sum", np.sum, [lambda g, out, x: np.broadcast_to(g, x.shape)])
# For Y = X W and G = dL/dY:  dL/dX = G W^T  and  dL/dW = X^T G.
matmul = linear("matmul", np.matmul, [lambda g, out, x, w: g @ w.T, lambda g, out, x, w: x.T @ g])
logsumexp = general(  # over the last axis; its gradient is the softmax
    "logsumexp",
    lambda x: np.logaddexp.reduce(x, axis=-1),
    [lambda g, out, x: g[..., None] * np.exp(x - out[..., None])],
)

for method, primitive in {"add": add, "sub": sub, "mul": mul, "truediv": div,
                          "matmul": matmul}.items():  # fmt: skip
    setattr(Tensor, f"__{method}__", lambda x, y, p=primitive: p(x, y))
    setattr(Tensor, f"__r{method}__", lambda x, y, p=primitive: p(y, x))
for primitive in (exp, log, tanh, relu, sigmoid, total, logsumexp):
    setattr(Tensor, primitive.name, lambda x, p=primitive: p(x))
Tensor.__neg__ = lambda x: x * -1.0
Tensor.mean = lambda x: x.sum() / x.data.size
Tensor.reshape = lambda x, *shape: reshape(x, shape=shape)
Tensor.T = property(lambda x: permute(x))


# -- 6. A network that learns exclusive or ------------------------------------------------------

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[0], [1], [1], [0]])
    w1, b1 = Tensor(rng.normal(size=(2, 8)), True), Tensor(np.zeros(8), True)
    w2, b2 = Tensor(rng.normal(size=(8, 1)), True), Tensor(np.zeros(1), True)
    for step in range(501):
        p = ((x @ w1 + b1).tanh() @ w2 + b2).sigmoid()
        loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
        loss.backward()
        for parameter in (w1, b1, w2, b2):
            parameter.data -= 0.5 * parameter.grad.data
            parameter.zero_grad()
        if step % 100 == 0:
            print(f"step {step:3}  loss {loss.item():.4f}  {p.data.ravel().round(2)}")
