"""What else helps against a fault: tried where a rule's own fix does not help, or has no edits."""

from __future__ import annotations

from dataclasses import replace

from fathom.doctor.finding import Edit, Finding, Fix

HERE = "@"  # as a target: where the finding is

_SMALLER = (
    Fix("a learning rate ten times smaller", "lr = 0.1 * lr", (Edit("lr", value=0.1),)),
    Fix("a learning rate a hundred times smaller", "lr = 0.01 * lr", (Edit("lr", value=0.01),)),
    Fix("a learning rate a thousand times smaller", "lr = 0.001 * lr",
        (Edit("lr", value=1e-3),)),
    Fix("a learning rate ten thousand times smaller", "lr = 1e-4 * lr", (Edit("lr", value=1e-4),)),
)  # fmt: skip
_LARGER = (
    Fix("a learning rate ten times larger", "lr = 10 * lr", (Edit("lr", value=10.0),)),
    Fix("a learning rate a hundred times larger", "lr = 100 * lr", (Edit("lr", value=100.0),)),
    Fix("a learning rate a thousand times larger", "lr = 1000 * lr", (Edit("lr", value=1e3),)),
    Fix("a learning rate ten thousand times larger", "lr = 1e4 * lr", (Edit("lr", value=1e4),)),
)  # fmt: skip
_MOMENTUM = Fix("a momentum of 0.9", "momentum=0.9", (Edit("momentum", value=0.9),))
_CONSTANT = Fix("keep the learning rate where it began, or let it fall more slowly",
                "no scheduler, or one with a gamma nearer to 1", (Edit("schedule"),))  # fmt: skip
_SCALED = Fix("standardize the inputs", "x = (x - x_train.mean(0)) / x_train.std(0)",
              (Edit("scale_inputs"),))  # fmt: skip
_FRESH = Fix("draw the weights anew, by the usual rule", "module.reset_parameters()",
             (Edit("initialize"),))  # fmt: skip
_HE = Fix("initial weights by He's rule, biases of 0", "nn.init.kaiming_normal_(layer.weight)",
          (Edit("initialize", value="kaiming"),))  # fmt: skip
_CLIP = Fix("clip the gradient's norm to 1", "nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
            (Edit("clip", value=1.0),))  # fmt: skip
_NORMALIZED = Fix("a layer normalization behind each hidden layer", "nn.LayerNorm(features)",
                  (Edit("insert_normalization"),))  # fmt: skip
_STOP = Fix("stop where the score on held-out data is best, and keep those weights",
            "EarlyStopping(patience=3, restore_best=True)", (Edit("stop"),))  # fmt: skip
_LARGE_BATCH = Fix("larger batches", "DataLoader(..., batch_size=32, drop_last=True)",
                   (Edit("batch", value=32),))  # fmt: skip
_CLASSES = Fix("a unit a class, and cross-entropy on their logits",
               "nn.Linear(features, classes); loss_fn = nn.CrossEntropyLoss()",
               (Edit("classes"),))  # fmt: skip
_OUTPUT = Fix("draw the last layer anew, small", "", (Edit("initialize_output"),))
_LEAKY = Fix("leaky relu instead of relu, and fresh weights", "nn.LeakyReLU(0.01)",
             (Edit("activation", value="leaky_relu"), Edit("initialize")))  # fmt: skip
_RELU = Fix("relu instead of what saturates, and He's initial weights", "nn.ReLU()",
            (Edit("activation", value="relu"), Edit("initialize", value="kaiming")))  # fmt: skip
_RELU_NORMALIZED = Fix(
    "relu instead of what saturates, He's initial weights, and layer normalization",
    "nn.LayerNorm(features); nn.ReLU()",
    (*_RELU.edits, Edit("insert_normalization")))  # fmt: skip
_RELU_SLOWLY = Fix("relu instead of what saturates, He's initial weights, and a learning rate ten "
                   "times smaller", "nn.ReLU()", (*_RELU.edits, Edit("lr", value=0.1)))  # fmt: skip
_ADAM = Fix("Adam with a learning rate of 0.001", "Adam(model.parameters(), lr=1e-3)",
            (Edit("optimizer", value=("Adam", 1e-3)),))  # fmt: skip
_SIGN = Fix("the loss with the other sign", "loss = -loss", (Edit("sign"),))
_LABELS = Fix("class numbers from 0, as integers", "y = np.unique(y, return_inverse=True)[1]",
              (Edit("labels"),))  # fmt: skip
_CONNECT = Fix("let gradients through: no detach(), .data or no_grad() between the layers",
               "", (Edit("connect"),))  # fmt: skip
_FINITE = Fix("leave out, or fill in, the examples whose values are not finite",
              "keep = np.isfinite(x).all(1); x, y = x[keep], y[keep]",
              (Edit("finite"),))  # fmt: skip
_REBUILD = Fix("hand all parameters of the model to the optimizer, those in plain lists, too",
               "nn.ModuleList(layers); optimizer = type(optimizer)(model.parameters())",
               (Edit("rebuild_optimizer"),))  # fmt: skip
_STEP = Fix("take the step", "optimizer.step()  # behind backward", (Edit("step"),))
_LOGITS = Fix("cross-entropy on the logits", "loss_fn = nn.CrossEntropyLoss()",
              (Edit("drop_output_activation"), Edit("loss", value="cross_entropy")))  # fmt: skip
_DECAY = Fix("no weight decay", "weight_decay=0", (Edit("weight_decay", value=0.0),))
_BARE = Fix("leave out what stands behind the last layer", "",
            (Edit("drop_output_activation"),))  # fmt: skip
_TARGETS = Fix("standardize the targets", "y = (y - y.mean()) / y.std()",
               (Edit("scale_targets"),))  # fmt: skip
_WIDER = Fix("more units in this layer", "", (Edit("widen", HERE),))
_LONGER = Fix("train four times as long", "", (Edit("steps", value=4),))

REMEDIES: dict[str, tuple[Fix, ...]] = {
    "learning_rate_too_high": (*_SMALLER, _MOMENTUM),
    "exploding_gradients": (_FRESH, _SMALLER[0], _SMALLER[1], _NORMALIZED),
    "non_finite": (_FINITE, *_SMALLER[1:3], _SCALED, _FRESH),
    "learning_rate_too_low": (_CONSTANT, *_LARGER),
    "frozen_parameters": (_REBUILD, *_LARGER[:2]),
    "missing_step": (_STEP,),
    "missing_from_optimizer": (_REBUILD,),
    "no_gradient": (_CONNECT, _REBUILD),
    "dead_units": (_FRESH, _LEAKY, _SMALLER[0], _SMALLER[1]),
    "saturated_units": (_FRESH, _SCALED, _RELU),
    "vanishing_gradients": (_RELU, _NORMALIZED, _HE, _RELU_NORMALIZED, _RELU_SLOWLY),
    "constant_output": (_FRESH, _SMALLER[1], _SCALED, _RELU),
    "symmetric_initialization": (_FRESH,),
    "initialization_scale": (_FRESH, _HE),
    "initial_loss": (_OUTPUT, _FRESH, _SCALED),
    "duplicate_units": (_FRESH,),
    "off_centre": (_SCALED, _NORMALIZED),
    "input_scale": (_NORMALIZED,),
    "wrong_loss": (_CLASSES,),
    "unreachable_targets": (_CLASSES, _BARE),
    "label_range": (_CLASSES,),
    "softmax_wrong_axis": (_LOGITS,),
    "probabilities_expected": (_LOGITS,),
    "batchnorm_few_samples": (_LARGE_BATCH,),
    "bottleneck": (_WIDER,),
    "overfitting": (_STOP,),
    "strong_regularization": (_DECAY,),
    "target_scale": (_TARGETS,),
    "still_improving": (_LONGER,),
    "sum_reduction": _SMALLER[:2],
    "loss_below_bound": (_SIGN, _LABELS, _LOGITS),
    "loss_zero_at_start": (_LABELS, _CLASSES),
    "not_learning": (_SMALLER[0], _LARGER[0], _ADAM, _SCALED, _FRESH, _RELU_NORMALIZED),
    "one_batch": (_ADAM, _SCALED, _FRESH),
    "linear_baseline": (_ADAM, _SCALED, _FRESH),
    "underfitting": (_ADAM,),
}
# faults of which no change of the run is a cure, and why
BEYOND = {
    "inputs_constant": "the kept inputs tell nothing: the cure is in the data",
    "no_signal": "the labels do not depend on the inputs: the cure is in the data",
    "permuted_labels": "the labels do not depend on the inputs: the cure is in the data",
}


def candidates(finding: Finding) -> list[Fix]:
    """The fixes to try, in order: the rule's own, its alternatives, and what else may help.

    >>> own = Fix("lower it", edits=(Edit("lr", value=0.1),))
    >>> found = Finding("overfitting", "warning", 0.9, "model", 0, (), "", own)
    >>> [fix.edits[0].action for fix in candidates(found)]
    ['lr', 'stop']
    """
    kinds: list[Fix] = []
    others = (_placed(fix, finding.where) for fix in REMEDIES.get(finding.kind, ()))
    for fix in (finding.fix, *finding.fix.alternatives, *others):
        if fix.edits and fix.edits not in [k.edits for k in kinds]:
            kinds.append(fix)
    return kinds


def _placed(fix: Fix, where: str) -> Fix:
    edits = tuple(replace(e, target=where) if e.target == HERE else e for e in fix.edits)
    return fix if edits == fix.edits else replace(fix, edits=edits)


__all__ = ["BEYOND", "REMEDIES", "candidates"]
