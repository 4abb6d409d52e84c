import numpy as np
import pytest

import fathom
from fathom import doctor, nn
from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.random import Random

X = Random(0).stream("x").normal((2, 1, 16, 16), dtype=np.float64)


def conv(**options):
    with fathom.seed(0):
        return nn.Conv2d(1, 4, 3, **options).double()


CIRCULAR = {"padding": 1, "padding_mode": "circular"}


def test_a_circular_convolution_is_equivariant_and_not_invariant():
    found = doctor.shift_response(conv(**CIRCULAR), X, (2, 3))
    assert found.equivariance_error == 0.0 and found.output_shift == (2, 3)
    assert found.invariance_error > 1.0


def test_others_are_so_in_their_interior():
    valid = conv()
    assert doctor.shift_response(valid, X, (2, 3)).equivariance_error > 0.1
    assert doctor.shift_response(valid, X, (2, 3), margin=3).equivariance_error == 0.0
    padded = conv(padding=1)
    assert doctor.shift_response(padded, X, (2, 3), margin=3).equivariance_error > 0.1
    assert doctor.shift_response(padded, X, (2, 3), margin=4).equivariance_error == 0.0


def test_global_pooling_is_invariant():
    assert doctor.shift_response(nn.GlobalAvgPool(), X, (2, 3)).invariance_error < 1e-16
    assert doctor.shift_response(nn.GlobalMaxPool(), X, (2, 3)).invariance_error == 0.0
    stack = nn.Sequential(conv(**CIRCULAR), nn.ReLU(), nn.GlobalAvgPool())
    found = doctor.shift_response(stack, X, 5)
    assert found.invariance_error < 1e-15 and np.isnan(found.equivariance_error)


def test_strides_alias_unless_the_shift_is_a_multiple():
    strided = conv(stride=2, **CIRCULAR)
    assert doctor.shift_response(strided, X, (2, 4)).output_shift == (1, 2)
    assert doctor.shift_response(strided, X, (2, 4)).equivariance_error == 0.0
    assert doctor.shift_response(strided, X, (1, 1)).equivariance_error > 0.1
    upsample = nn.Upsample(scale_factor=2)
    assert doctor.shift_response(upsample, X, (1, 3)).output_shift == (2, 6)
    assert doctor.shift_response(upsample, X, (1, 3)).equivariance_error == 0.0


def test_pooling_brings_the_response_to_one_cell_down():
    image = np.array(X)
    for _ in range(3):  # smooth it
        image = (image + np.roll(image, 1, 2) + np.roll(image, 1, 3)) / 3
    pooled = doctor.shift_response(nn.MaxPool2d(2), image, (1, 1))
    plain = doctor.shift_response(nn.Identity(), image, (1, 1))
    assert pooled.invariance_error < plain.invariance_error


def test_a_dense_layer_has_no_such_symmetry():
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 256), nn.Unflatten(1, (1, 16, 16)))
    assert doctor.shift_response(model.double(), X, (1, 0)).equivariance_error > 0.1


def test_functions_one_axis_and_bad_arguments():
    assert doctor.shift_response(lambda x: x * 2.0, X[:, :, 0], 3).equivariance_error == 0.0
    with pytest.raises(ShapeError, match="axis for each shift"):
        doctor.shift_response(nn.Identity(), X[:, 0, 0], (1, 2))
    with pytest.raises(ArgumentError, match="margin 8"):
        doctor.shift_response(nn.Identity(), X, 1, margin=8)
    with pytest.raises(ArgumentError, match="margin"):
        doctor.shift_response(nn.Identity(), X, 1, margin=-1)


def test_dropout_and_norms_run_as_in_eval():
    model = nn.Sequential(conv(**CIRCULAR), nn.BatchNorm2d(4).double(), nn.Dropout(0.5))
    assert doctor.shift_response(model, X, (2, 3)).equivariance_error == 0.0
    assert model.training and not model[1].running_mean.value().any()
