import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import FathomError
from fathom.train import curvature, landscape

DATA = fathom.data.load("moons", n=64)
X, Y = DATA.x.astype(np.float64), DATA.y


def model(*middle):
    with fathom.seed(0):
        return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), *middle, nn.Linear(5, 2)).double()


@pytest.fixture
def tiny():
    net = model()
    net.fit(X, Y, epochs=5, lr=0.05, verbose=False)
    return net, curvature.loss_function(net, X, Y), list(net.parameters())


class TestHessian:
    def test_products_and_the_dense_matrix(self, tiny):
        net, closure, parameters = tiny
        matrix = curvature.dense_hessian(closure, parameters)
        np.testing.assert_allclose(matrix, matrix.T)
        product, size = curvature.hvp_of(closure, parameters)
        v = np.random.default_rng(0).standard_normal(size)
        np.testing.assert_allclose(product(v), matrix @ v, atol=1e-10)
        # a central difference of gradients says the same
        found = product(v)
        origin, e = landscape.weights_of(net), 1e-5
        grads = []
        for sign in (1, -1):
            nn.utils.vector_to_parameters(fathom.tensor(origin + sign * e * v), parameters)
            net.zero_grad()
            closure().backward()
            grads.append(np.concatenate([p.grad.value().reshape(-1) for p in parameters]))
        np.testing.assert_allclose(found, (grads[0] - grads[1]) / (2 * e), atol=1e-4)

    def test_lanczos_finds_the_extreme_eigenvalues(self, tiny):
        _, closure, parameters = tiny
        matrix = curvature.dense_hessian(closure, parameters)
        wanted = np.linalg.eigvalsh(matrix)
        wanted = wanted[np.argsort(-np.abs(wanted))]
        values, vectors = curvature.eigenvalues(closure, parameters, k=3)
        np.testing.assert_allclose(values, wanted[:3], rtol=1e-6)
        for value, v in zip(values, vectors, strict=True):
            np.testing.assert_allclose(matrix @ v, value * v, atol=1e-5)

    def test_hutchinson(self, tiny):
        _, closure, parameters = tiny
        wanted = np.trace(curvature.dense_hessian(closure, parameters))
        value, error = curvature.trace(closure, parameters, samples=200)
        assert abs(value - wanted) < 4 * error and error < 0.2 * abs(wanted) + 1

    def test_the_density_integrates_to_one_and_has_the_mean(self, tiny):
        _, closure, parameters = tiny
        values = np.linalg.eigvalsh(curvature.dense_hessian(closure, parameters))
        grid, density = curvature.spectral_density(closure, parameters, points=2000, samples=30)
        step = grid[1] - grid[0]
        assert density.sum() * step == pytest.approx(1.0, abs=1e-3)
        assert (grid * density).sum() * step == pytest.approx(values.mean(), abs=0.1)

    def test_float32_and_bad_arguments(self):
        net = nn.Linear(2, 2)
        closure = curvature.loss_function(net, X, Y)
        assert curvature.eigenvalues(closure, net.parameters())[0].shape == (1,)
        with pytest.raises(FathomError, match="k must"):
            curvature.eigenvalues(closure, net.parameters(), k=0)
        with pytest.raises(FathomError, match="samples"):
            curvature.trace(closure, net.parameters(), samples=1)


class TestNoise:
    def test_against_the_loop(self, tiny):
        net, _, parameters = tiny
        g = curvature.per_row_gradients(net, X, Y, chunk=20)
        for i in (0, 17, 63):
            net.zero_grad()
            curvature.loss_function(net, X[i : i + 1], Y[i : i + 1])().backward()
            row = np.concatenate([p.grad.value().reshape(-1) for p in parameters])
            np.testing.assert_allclose(g[i], row, atol=1e-12)
        net = model()  # far from a minimum the gradient is more than noise
        g = curvature.per_row_gradients(net, X, Y)
        noise = curvature.gradient_noise(net, X, Y)
        covariance = np.cov(g.T)
        assert noise.trace == pytest.approx(np.trace(covariance))
        assert noise.scale == pytest.approx(
            np.trace(covariance) / (np.square(g.mean(axis=0)).sum() - np.trace(covariance) / len(g))
        )
        assert "scale" in repr(noise)

    def test_trace_times_batch_is_constant(self, tiny):
        net, *_ = tiny
        found = curvature.batch_noise(net, X, Y, sizes=(1, 4, 16, 64), repeats=400)
        products = [size * value for size, value in found.items()]
        np.testing.assert_allclose(products, np.mean(products), rtol=0.25)

    def test_one_row_is_too_few(self):
        with pytest.raises(FathomError, match="two rows"):
            curvature.gradient_noise(model(), X[:1], Y[:1])


class TestSlices:
    @pytest.mark.parametrize("extra", [(), (nn.Dropout(0.5),)])
    def test_weights_and_modes_are_put_back(self, extra):
        net = model(*extra).train()
        before = landscape.weights_of(net)
        landscape.slice_1d(net, X, Y, points=3)
        landscape.slice_2d(net, X, Y, points=3)
        landscape.interpolate(net, X, Y, before * 2, points=3)
        landscape.sharpness(net, X, Y)
        np.testing.assert_array_equal(landscape.weights_of(net), before)
        assert all(m.training for m in net.modules())
        with pytest.raises(FathomError, match="direction has"):
            landscape.slice_1d(net, X, Y, np.ones(3))
        np.testing.assert_array_equal(landscape.weights_of(net), before)

    def test_the_middle_is_the_models_loss(self):
        net = model()
        loss = net.evaluate(X, Y, metrics=())["loss"]
        line = landscape.slice_1d(net, X, Y, points=5)
        assert line.loss[2] == pytest.approx(loss, rel=1e-12)
        plane = landscape.slice_2d(net, X, Y, points=5)
        assert plane.loss.shape == (5, 5) and plane.loss[2, 2] == pytest.approx(loss, rel=1e-12)
        np.testing.assert_allclose(plane.loss[:, 2], line.loss)
        assert plane.plot() is not None and line.plot() is not None

    def test_curvature_along_a_line_is_that_of_the_hessian(self):
        net = model()
        closure, ps = curvature.loss_function(net, X, Y), list(net.parameters())
        d = landscape.random_direction(net, 3)
        e = 1e-3
        line = landscape.slice_1d(net, X, Y, d, span=e, points=3).loss
        second = (line[0] - 2 * line[1] + line[2]) / e**2
        matrix = curvature.dense_hessian(closure, ps)
        assert second == pytest.approx(d @ matrix @ d, rel=1e-3)

    def test_filter_normalized(self):
        net = model()
        d, start = landscape.random_direction(net), 0
        for p in net.parameters():
            part = d[start : start + p.size].reshape(p.shape)
            start += p.size
            if p.ndim == 2:
                np.testing.assert_allclose(
                    np.linalg.norm(part, axis=1), np.linalg.norm(p.value(), axis=1)
                )
            else:
                assert (part == 0).all()
        with pytest.raises(FathomError, match="normalize"):
            landscape.random_direction(net, normalize="weight")

    def test_principal_directions_of_a_path(self):
        net, path = model(), []
        watch = fathom.train.LambdaCallback(
            on_epoch_end=lambda t, e, logs: path.append(landscape.weights_of(t.model))
        )
        net.fit(X, Y, epochs=8, lr=0.05, callbacks=[watch], verbose=False)
        directions, shares = landscape.pca_directions(path)
        np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-10)
        assert shares.sum() > 0.8
        plane = landscape.slice_2d(net, X, Y, path=path, points=3)
        np.testing.assert_allclose(plane.path[-1], [0, 0], atol=1e-12)
        assert np.abs(plane.path).max() <= plane.x.max()

    def test_interpolation_ends_at_the_other_weights(self):
        a, b = model(), model()
        b.fit(X, Y, epochs=5, lr=0.05, verbose=False)
        found = landscape.interpolate(a, X, Y, landscape.weights_of(b), points=3)
        assert found.loss[0] == pytest.approx(a.evaluate(X, Y)["loss"])
        assert found.loss[-1] == pytest.approx(b.evaluate(X, Y)["loss"])

    def test_sharpness_grows_with_the_radius(self):
        net = model()
        small, large = (landscape.sharpness(net, X, Y, rho=r) for r in (0.01, 0.1))
        assert 0 < small < large
