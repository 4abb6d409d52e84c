"""LeNet-5 (LeCun, Bottou, Bengio & Haffner, 1998)."""

from __future__ import annotations

from fathom.nn import Flatten, Linear, Sequential, activation
from fathom.nn.conv import Conv2d
from fathom.nn.pooling import AvgPool2d, MaxPool2d
from fathom.ops.checks import one_of


def lenet5(
    classes: int = 10,
    channels: int = 1,
    size: int = 28,
    activation_name: str = "tanh",
    pooling: str = "average",
) -> Sequential:
    """Two convolutions with pooling and three linear layers, for images (n, channels, size, size).

    28x28 images are padded by 2 to the 32x32 of the paper. 61,706 parameters for 10 classes: the
    second convolution sees all six maps (the paper's sees some, to save connections), and the
    output layer is linear in place of the radial basis functions.

    >>> import fathom
    >>> lenet5()(fathom.zeros(2, 1, 28, 28)).shape
    (2, 10)
    """
    one_of("lenet5", "pooling", pooling, ("average", "max"))
    one_of("lenet5", "size", size, (28, 32))
    pool = AvgPool2d if pooling == "average" else MaxPool2d
    return Sequential(
        Conv2d(channels, 6, 5, padding=2 if size == 28 else 0),
        activation(activation_name),
        pool(2),
        Conv2d(6, 16, 5),
        activation(activation_name),
        pool(2),
        Flatten(),
        Linear(400, 120),
        activation(activation_name),
        Linear(120, 84),
        activation(activation_name),
        Linear(84, classes),
    )
