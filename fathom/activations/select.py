"""Which activation to take: a list of rules, each with its reason and its source.

The rules are data. `choose` takes the first that fits, `tree` prints them all, and
scripts/score_selector.py measures how the answers rank where they can be trained.

>>> choose("output", task="counts").name
'exponential'
>>> print(choose("hidden", "cnn", environment="int8"))
relu6   (rule hidden.int8.cnn)
  because its range is 0 to 6 whatever the data: the INT8 grid needs no calibration
  init    kaiming_uniform_
  or      relu, hard_swish
  source  Jacob et al. (2018); Sandler et al. (2018), MobileNetV2
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fathom.engine.errors import ArgumentError, suggest

DEEP = 8  # layers from which a network counts as deep

OPTIONS: dict[str, tuple[str, ...]] = {
    "layer": ("hidden", "output", "gate", "attention"),
    "architecture": ("mlp", "cnn", "rnn", "transformer", "generator", "discriminator"),
    "task": ("binary", "multiclass", "multilabel", "regression", "positive", "bounded", "signed",
             "counts", "sparse", "image", "physics"),
    "environment": ("server", "mobile", "int8"),
    "depth": ("shallow", "deep"),
    "normalization": ("none", "batch", "layer"),
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """If every option named in `when` has one of the values there, the answer is `name`.

    init : a function of `fathom.nn.init` for the weights that feed the activation, or words.
    """

    key: str
    when: Mapping[str, tuple[str, ...]]
    name: str
    reasons: tuple[str, ...]
    source: str
    init: str
    alternatives: tuple[str, ...] = ()

    def fits(self, options: Mapping[str, str]) -> bool:
        return all(options[key] in values for key, values in self.when.items())

    def condition(self) -> str:
        """The condition in words.

        >>> RULES[0].condition()
        'layer is output, task is binary'
        """
        return ", ".join(f"{key} is {' or '.join(values)}" for key, values in self.when.items())


@dataclass(frozen=True)
class Choice:
    """An answer: the activation's name, the rule that gave it, why, what else, which init."""

    name: str
    rule: str
    reasons: tuple[str, ...]
    alternatives: tuple[str, ...]
    init: str
    source: str
    options: Mapping[str, str] = field(repr=False)

    @property
    def function(self) -> Callable[..., Any]:
        """The activation itself, from `fathom.activations`."""
        from fathom import activations

        found: Callable[..., Any] = getattr(activations, self.name)
        return found

    def __str__(self) -> str:
        lines = [f"{self.name}   (rule {self.rule})", *(f"  because {why}" for why in self.reasons)]
        lines.append(f"  init    {self.init}")
        if self.alternatives:
            lines.append(f"  or      {', '.join(self.alternatives)}")
        return "\n".join([*lines, f"  source  {self.source}"])


def _rule(
    key: str, name: str, reasons: str, source: str, init: str, other: str = "", **when: str
) -> Rule:
    """A `Rule` in short: reasons parted by |, lists by spaces; the layer stands in the key."""
    conditions = {"layer": (key.split(".")[0],), **{k: tuple(v.split()) for k, v in when.items()}}
    because = tuple(part.strip() for part in reasons.split("|"))
    return Rule(key, conditions, name, because, source, init, tuple(other.split()))


RULES: tuple[Rule, ...] = (
    # -- the last layer: what the target is decides
    _rule("output.binary", "sigmoid",
          "one probability; with the cross-entropy the gradient is p - y, never flat when wrong"
          " | train on the logits with binary_cross_entropy_with_logits",
          "Cox (1958); Bridle (1990)", "xavier_uniform_", "softmax", task="binary"),
    _rule("output.multiclass", "softmax",
          "probabilities of classes that exclude each other: they compete and sum to 1"
          " | train on the logits with cross_entropy",
          "Bridle (1990)", "xavier_uniform_", "log_softmax sparsemax", task="multiclass"),
    _rule("output.multilabel", "sigmoid",
          "labels that do not exclude each other: each needs a probability of its own",
          "Bishop (2006), chapter 4", "xavier_uniform_", "", task="multilabel"),
    _rule("output.sparse", "sparsemax",
          "probabilities of which most are exactly 0: softmax never gives a 0",
          "Martins and Astudillo (2016)", "xavier_uniform_", "entmax15", task="sparse"),
    _rule("output.counts", "exponential",
          "the log link of Poisson regression: effects multiply, with gradient rate - count",
          "Nelder and Wedderburn (1972)", "zeros_", "softplus", task="counts"),
    _rule("output.positive", "softplus",
          "positive for every input, and linear for large ones: it does not explode as exp does"
          " | relu would be 0 with slope 0 for half of all starts",
          "Dugas et al. (2000)", "xavier_uniform_", "exponential", task="positive"),
    _rule("output.bounded", "sigmoid",
          "between 0 and 1; low + (high - low) * sigmoid(x) for other bounds",
          "Bishop (2006), chapter 5", "xavier_uniform_", "hard_sigmoid", task="bounded"),
    _rule("output.signed", "tanh",
          "between -1 and 1 and odd, as the target", "LeCun et al. (1998)", "xavier_uniform_",
          "hard_tanh", task="signed"),
    _rule("output.image", "tanh",
          "pixels scaled to -1 ... 1, with the background and the extremes within reach",
          "Radford et al. (2016), DCGAN", "normal_", "sigmoid", task="image"),
    _rule("output.regression", "identity",
          "any real number may be the answer, and the squared error's gradient stays y - t",
          "Bishop (2006), chapter 5", "xavier_uniform_", "", task="regression physics"),
    # -- gates: how much of something passes
    _rule("gate.transformer.small", "hard_swish",
          "a gated feed-forward block without exponentials", "Howard et al. (2019), MobileNetV3",
          "xavier_uniform_", "hard_sigmoid relu", architecture="transformer",
          environment="mobile int8"),
    _rule("gate.small", "hard_sigmoid",
          "a gate of comparisons and one multiplication: exact in INT8, no exponential",
          "Howard et al. (2019), MobileNetV3", "xavier_uniform_", "sigmoid",
          environment="mobile int8"),
    _rule("gate.transformer", "silu",
          "the gate of SwiGLU: lower perplexity than ReLU and GELU blocks of the same size",
          "Shazeer (2020)", "xavier_uniform_", "gelu sigmoid", architecture="transformer"),
    _rule("gate.rnn", "sigmoid",
          "a share between 0 and 1 of what is kept, added or shown"
          " | start the forget gate's bias at 1, so that it remembers",
          "Hochreiter and Schmidhuber (1997); Jozefowicz et al. (2015)", "xavier_uniform_",
          "hard_sigmoid", architecture="rnn"),
    _rule("gate.plain", "sigmoid",
          "a share between 0 and 1; a negative bias at the start lets the input through",
          "Srivastava et al. (2015), highway networks; Hu et al. (2018)", "xavier_uniform_",
          "hard_sigmoid"),
    # -- attention: weights over positions
    _rule("attention.sparse", "entmax15",
          "positions that do not matter get exactly 0, with a gradient smoother than sparsemax's",
          "Peters, Niculae and Martins (2019)", "xavier_uniform_", "sparsemax", task="sparse"),
    _rule("attention.small", "elu",
          "elu(x) + 1 of queries and keys makes attention linear: no table of all pairs"
          " | its answers are not those of softmax: the network must be trained with it",
          "Katharopoulos et al. (2020)", "xavier_uniform_", "softmax relu",
          environment="mobile int8"),
    _rule("attention.plain", "softmax",
          "a weighted mean of the values: positive weights that sum to 1",
          "Bahdanau et al. (2015); Vaswani et al. (2017)", "xavier_uniform_",
          "online_softmax entmax15"),
    # -- hidden layers: special needs first, then the architecture
    _rule("hidden.rnn.small", "hard_tanh",
          "bounded, so that the state cannot grow, and made of comparisons",
          "Courbariaux et al. (2015)", "orthogonal_", "relu6 tanh", architecture="rnn",
          environment="mobile int8"),
    _rule("hidden.rnn", "tanh",
          "bounded and zero-centred: the state can neither grow nor drift over many steps",
          "Elman (1990); Glorot and Bengio (2010)", "orthogonal_", "relu", architecture="rnn"),
    _rule("hidden.physics", "tanh",
          "the loss differentiates the network: the second derivative of ReLU is 0 everywhere",
          "Raissi et al. (2019)", "xavier_uniform_", "silu softplus", task="physics"),
    _rule("hidden.int8.cnn", "relu6",
          "its range is 0 to 6 whatever the data: the INT8 grid needs no calibration",
          "Jacob et al. (2018); Sandler et al. (2018), MobileNetV2", "kaiming_uniform_",
          "relu hard_swish", architecture="cnn generator discriminator", environment="int8"),
    _rule("hidden.int8", "relu",
          "exact on the codes of INT8; smooth ones need a table of 256 entries",
          "Jacob et al. (2018)", "kaiming_uniform_", "relu6", environment="int8"),
    _rule("hidden.mobile.deep", "hard_swish",
          "nearly Swish, from comparisons and multiplications; it pays in deep layers",
          "Howard et al. (2019), MobileNetV3", "kaiming_uniform_", "relu6 relu",
          environment="mobile", depth="deep"),
    _rule("hidden.mobile", "relu",
          "one comparison, and half of the outputs are exact zeros", "Nair and Hinton (2010)",
          "kaiming_uniform_", "relu6 hard_swish", environment="mobile"),
    _rule("hidden.transformer", "gelu",
          "smooth, with a small slope left of 0: published language models were tuned with it",
          "Hendrycks and Gimpel (2016); Devlin et al. (2019), BERT", "xavier_uniform_",
          "swiglu silu relu", architecture="transformer"),
    _rule("hidden.discriminator", "leaky_relu",
          "slope 0.2 on the left keeps a gradient for the generator where a unit is off",
          "Radford et al. (2016), DCGAN", "normal_", "elu", architecture="discriminator"),
    _rule("hidden.generator", "relu",
          "with batch normalization it learns the colours of images fastest",
          "Radford et al. (2016), DCGAN", "normal_", "leaky_relu", architecture="generator"),
    _rule("hidden.mlp.selu", "selu",
          "mean 0 and variance 1 are a fixed point: depth without normalization"
          " | needs lecun_normal_ and, for dropout, AlphaDropout",
          "Klambauer et al. (2017)", "lecun_normal_", "elu silu", architecture="mlp",
          depth="deep", normalization="none"),
    _rule("hidden.cnn.elu", "elu",
          "outputs nearer to mean 0 do without normalization, and no unit dies",
          "Clevert et al. (2016)", "kaiming_uniform_", "selu leaky_relu", architecture="cnn",
          depth="deep", normalization="none"),
    _rule("hidden.deep", "silu",
          "smooth and not monotone; gains on ReLU grow with depth where the layers are normalized",
          "Ramachandran et al. (2017)", "kaiming_uniform_", "relu gelu mish", depth="deep",
          normalization="batch layer"),
    _rule("hidden.plain", "relu",
          "the cheapest that trains well: slope 1 where it is on, exact zeros where it is off",
          "Nair and Hinton (2010); Glorot et al. (2011)", "kaiming_uniform_",
          "leaky_relu elu silu"),
)  # fmt: skip


def choose(
    layer: str = "hidden",
    architecture: str = "mlp",
    task: str | None = None,
    environment: str = "server",
    depth: str | int = "shallow",
    normalization: str = "none",
) -> Choice:
    """The activation for a place in a network, with the rule and the reasons.

    layer : "hidden", "output", "gate" or "attention". task : what is predicted (needed for
    "output"): "binary", "multiclass", "multilabel", "regression", "positive", "bounded" (0 to
    1), "signed" (-1 to 1), "counts", "sparse" (probabilities with zeros), "image", "physics"
    (the loss holds derivatives of the network). environment : "server", "mobile" or "int8".
    depth : "shallow", "deep", or the number of layers (8 and more are deep). architecture and
    normalization : see `OPTIONS`.

    Raises `ArgumentError` for unknown values, with those there are.

    >>> choose("hidden", "mlp", depth=20).name, choose("hidden", "mlp", depth=2).name
    ('selu', 'relu')
    >>> choose("output", task="multilabel").function.name
    'sigmoid'
    """
    given = {
        "layer": layer,
        "architecture": architecture,
        "task": "regression" if task is None else task,
        "environment": environment,
        "depth": _depth(depth),
        "normalization": normalization,
    }
    options = {key: _known(key, value) for key, value in given.items()}
    if options["layer"] == "output" and task is None:
        raise ArgumentError(
            "choose: the activation of an output depends on what is predicted",
            fix=f"give a task: {', '.join(OPTIONS['task'])}",
        )
    rule = next(rule for rule in RULES if rule.fits(options))
    return Choice(
        rule.name, rule.key, rule.reasons, rule.alternatives, rule.init, rule.source, options
    )


def _depth(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if value < 1:
        raise ArgumentError(f"choose: a network has a layer or more; received depth {value}")
    return "deep" if value >= DEEP else "shallow"


def _known(key: str, value: Any) -> str:
    text = str(value).lower()
    if text not in OPTIONS[key]:
        raise ArgumentError(f"choose: unknown {key} {value!r}", fix=suggest(text, OPTIONS[key]))
    return text


def tree() -> str:
    """All rules in the order in which they are tried, as text.

    >>> print(tree().splitlines()[0])
    output
    >>> print(tree().splitlines()[1])
      task is binary -> sigmoid   (output.binary)
    """
    lines, last = [], ""
    for rule in RULES:
        layer, *rest = rule.condition().split(", ")
        if layer != last:
            lines.append(layer.removeprefix("layer is "))
            last = layer
        lines.append(f"  {', '.join(rest) or 'otherwise'} -> {rule.name}   ({rule.key})")
    return "\n".join(lines)
