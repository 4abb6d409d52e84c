"""A LeNet-style convolutional network on 8,000 MNIST digits.

    python examples/cnn_mnist.py [--quick] [--seed N] [--out FOLDER]

The architecture of LeCun et al. (1998) with today's parts: ReLU, max pooling, Adam. A convolution
uses the same few weights at every place of the image. Does pooling also make it indifferent to
where the digit stands? The test set is read as it is, and moved by two pixels.
"""

from __future__ import annotations

import time

import numpy as np
from common import digit_images, options, panels, save_figure, table

import fathom
from fathom import nn

opts = options(__doc__)
epochs, rate = (3, 0.003) if opts.quick else (8, 0.001)

# -- data: (n, channels, height, width) ----------------------------------------------------------

train, test = digit_images(*((1500, 500) if opts.quick else (8000, 2000)), opts.seed)
x_train, x_test = (part.x.reshape(-1, 1, 28, 28) for part in (train, test))

# -- model: the shapes it makes of one image are on the right ------------------------------------

with fathom.seed(opts.seed):
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2),  # (8, 28, 28)
        nn.ReLU(),
        nn.MaxPool2d(2),  # (8, 14, 14)
        nn.Conv2d(8, 16, 5),  # (16, 10, 10)
        nn.ReLU(),
        nn.MaxPool2d(2),  # (16, 5, 5)
        nn.Flatten(),  # (400,)
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(120, 10),
    )
weights = sum(p.size for p in model.parameters())

# -- training ------------------------------------------------------------------------------------

start = time.perf_counter()
history = model.fit(
    x_train, train.y, epochs=epochs, batch_size=32, lr=rate, seed=opts.seed,
    validation_data=(x_test, test.y), verbose=False,
)  # fmt: skip
seconds = time.perf_counter() - start

# -- the test, and the same images moved ---------------------------------------------------------

rows = [(e + 1, history["loss"][e], history["val_accuracy"][e]) for e in range(epochs)]
table(("epoch", "loss", "test accuracy"), rows)
accuracy = model.evaluate(x_test, test.y)["accuracy"]
moved = {
    way: model.evaluate(np.roll(x_test, step, axis=(2, 3)), test.y)["accuracy"]
    for way, step in {"down right": (2, 2), "up left": (-2, -2)}.items()
}
for way, share in moved.items():
    print(f"moved two pixels {way}: {share:.2%}")
print(f"test accuracy {accuracy:.2%} with {weights:,} weights in {seconds:.1f} s")

if opts.out:
    figure, (image, filters, maps) = panels(3)
    image.imshow(x_test[0, 0], cmap="gray_r")
    image.set_title(f"a {test.y[0]}")
    kernels = model[0].weight.value()[:, 0]  # (8, 5, 5)
    filters.imshow(np.pad(kernels, ((0, 0), (1, 1), (1, 1))).reshape(2, 4, 7, 7)
                   .transpose(0, 2, 1, 3).reshape(14, 28), cmap="RdBu")  # fmt: skip
    filters.set_title("the 8 filters of layer 1")
    with fathom.no_grad():
        seen = model[1](model[0](fathom.tensor(x_test[:1]))).value()[0]  # (8, 28, 28)
    maps.imshow(seen.reshape(2, 4, 28, 28).transpose(0, 2, 1, 3).reshape(56, 112), cmap="gray_r")
    maps.set_title("what they find in it")
    for axes in (image, filters, maps):
        axes.set(xticks=[], yticks=[])
    save_figure(figure, opts.out, "cnn_mnist")

print("Next: move the training images at random by up to two pixels and read the tests again.")
