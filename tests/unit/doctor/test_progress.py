"""The gate: base and floor of each loss, and where a run stands, on curves made by hand."""

import math

import numpy as np
import pytest

from fathom.doctor.baselines import baseline, lower_bound
from fathom.doctor.case import Case, LossCall
from fathom.doctor.progress import progress, smoothed, trend

RNG = np.random.default_rng(3)


def made(function, output, target, **options):
    return LossCall(0, function, output, target, 1.0, options,
                    shapes=(output.shape, target.shape))  # fmt: skip


def bounds(call):
    case = Case(losses=[call])
    return baseline(case, call), lower_bound(call)


LOGITS = np.zeros((60, 3))
LABELS = np.repeat([0, 1, 2], [30, 20, 10])
ENTROPY = -sum(p * math.log(p) for p in (1 / 2, 1 / 3, 1 / 6))


def test_cross_entropy_is_the_entropy_of_the_classes():
    assert bounds(made("cross_entropy", LOGITS, LABELS)) == (pytest.approx(ENTROPY), 0.0)


def test_sums_count_their_terms():
    base, _ = bounds(made("cross_entropy", LOGITS, LABELS, reduction="sum"))
    assert base == pytest.approx(60 * ENTROPY)
    images = np.zeros((4, 3, 5, 5))
    target = RNG.integers(0, 3, (4, 5, 5))
    base, _ = bounds(made("cross_entropy", images, target, reduction="sum"))
    assert base == pytest.approx(100 * math.log(3), rel=0.1)


def test_class_weights_and_ignored_labels():
    weight = np.array([1 / 30, 1 / 20, 1 / 10])
    base, _ = bounds(made("cross_entropy", LOGITS, LABELS, weight=weight))
    assert base == pytest.approx(math.log(3))
    ignored = np.where(LABELS == 2, -100, LABELS)
    base, _ = bounds(made("cross_entropy", LOGITS, ignored))
    assert base == pytest.approx(-0.6 * math.log(0.6) - 0.4 * math.log(0.4))


def test_smoothed_and_soft_labels_have_a_floor():
    base, floor = bounds(made("cross_entropy", LOGITS, LABELS, label_smoothing=0.3))
    p = np.array([0.8, 0.1, 0.1])
    assert floor == pytest.approx(-(p * np.log(p)).sum()) and floor < base
    soft = np.full((60, 3), 1 / 3)
    base, floor = bounds(made("cross_entropy", LOGITS, soft))
    assert base == pytest.approx(floor) == pytest.approx(math.log(3))


def test_grey_images_under_binary_cross_entropy_have_a_floor():
    target = RNG.uniform(0.2, 0.8, (200, 1, 4, 4))
    base, floor = bounds(made("binary_cross_entropy", target, target))
    inside = -(target * np.log(target) + (1 - target) * np.log(1 - target))
    assert floor == pytest.approx(inside.mean(), rel=1e-6) and floor < base


def test_pos_weight_moves_the_best_constant():
    target = (np.arange(100) < 20).astype(float)[:, None]
    base, _ = bounds(made("binary_cross_entropy_with_logits", target, target, pos_weight=[4.0]))
    ps = np.linspace(0.01, 0.99, 999)
    best = min(-(4 * 0.2 * np.log(p) + 0.8 * np.log(1 - p)) for p in ps)
    assert base == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("function", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_no_constant_beats_the_base_of_an_error(function):
    torch = pytest.importorskip("torch")
    target = RNG.normal(2.0, 3.0, (400, 1))
    loss = getattr(torch.nn.functional, function)
    base, floor = bounds(made(function, target, target))
    tried = [float(loss(torch.full((400, 1), float(c)), torch.tensor(target)))
             for c in np.linspace(-2, 6, 81)]  # fmt: skip
    assert floor == 0.0 and base <= min(tried) * 1.02 and base >= min(tried) * 0.98


def test_unknown_losses_have_no_base():
    assert math.isnan(bounds(made("custom", LOGITS, LABELS))[0])


# -- where a run stands ----------------------------------------------------------------------------


def state(curve, target=None, **more):
    target = np.tile([-1.0, 1.0], 20)[:, None] if target is None else target
    call = LossCall(0, "mse_loss", np.zeros_like(target), target, more.pop("value", curve[0]),
                    shapes=(target.shape, target.shape), count=more.pop("count", 1))  # fmt: skip
    return progress(Case(losses=[call], curve=list(curve), ended=True, **more))


NOISE = 0.1 * RNG.normal(size=2000)


@pytest.mark.parametrize(("curve", "expected"), [
    ([0.97**i for i in range(200)], "done"),
    ([1.0 - 0.003 * i for i in range(200)], "learning"),
    ([1.0 - 0.0005 * i for i in range(200)], "slow"),
    (1.0 + NOISE[:200], "stuck"),
    (1.0 + NOISE, "stuck"),
    (0.5 + NOISE[:200], "plateau"),
    (np.r_[np.linspace(1, 0.5, 100), np.linspace(0.5, 1.2, 100)], "worse"),
    (np.r_[1.0, 50.0, np.full(98, 1.1)], "stuck"),
    ([1.0 + 1e-12 * (i % 2) for i in range(100)], "stuck"),
    (0.9 ** np.arange(16), "young"),
    ([1.0, 0.9, np.inf, np.nan], "broken"),
])  # fmt: skip
def test_states(curve, expected):
    assert state(curve).state == expected


def test_noise_about_a_constant_is_seldom_taken_for_learning():
    rng = np.random.default_rng(0)
    seen = [state(1.0 + 0.2 * rng.normal(size=150)) for _ in range(200)]
    assert sum(s.learning for s in seen) <= 4


def test_slow_falls_are_seen_through_noise_over_a_long_run():
    rng = np.random.default_rng(0)
    n = 4000
    assert state(np.linspace(0.8, 0.4, n) + 0.2 * rng.normal(size=n)).falling


def test_a_cyclic_rate_does_not_make_a_run_worse():
    i = np.arange(600)
    curve = 0.9 * 0.995**i * (1 + 0.25 * np.sin(i / 15)) + 0.02
    assert state(curve).learning


def test_a_run_that_came_through_a_bad_batch_is_not_broken():
    curve = [0.95**i for i in range(60)]
    curve[20] = math.inf
    assert state(curve).finite


def test_accumulation_scales_the_base():
    found = state([0.25] * 100, value=1.0)  # a quarter of the loss is propagated
    assert found.known and found.base == pytest.approx(0.25) and found.state == "stuck"


def test_several_losses_a_step_and_constant_targets_are_unknown():
    assert state([1.0] * 100, count=2).state == "unknown"
    assert state([0.7] * 100, target=np.ones((40, 1))).state == "unknown"


def test_moving_targets_are_unknown():
    calls = [LossCall(i, "mse_loss", np.zeros((16, 1)), RNG.normal(3.0 * i, 1, (16, 1)), 1.0)
             for i in range(4)]  # fmt: skip
    assert not progress(Case(losses=calls, curve=[1.0] * 100)).known


def test_warming_ends_with_the_first_fall_of_the_rate(made):
    rising = [made.step(n, lr=1e-4 * (n + 1)) for n in (0, 1, 2, 4)]
    assert progress(made.case(made.stuck(), rising)).warming
    assert not progress(made.case(made.stuck(), [*rising, made.step(8, lr=1e-5)])).warming


def test_huge_losses_do_not_spoil_what_follows():
    smooth = smoothed(np.r_[1e30, np.full(100, 2.0)])
    assert smooth[-1] == pytest.approx(2.0)


def test_trend_of_a_line():
    slope, error = trend(np.linspace(2, 1, 200))
    assert slope == pytest.approx(-(1 / 199) / 1.25, rel=0.02) and error < 1e-3


def test_worked_out_once_and_anew_when_the_curve_grows():
    case = Case(curve=list(np.ones(10_000)))
    first = progress(case)
    assert progress(case) is first
    case.curve.append(0.5)
    assert progress(case) is not first and progress(case).steps == 10_001


def test_only_what_is_new_is_copied():
    case = Case(curve=[1.0] * 300)
    kept = case.course()
    case.curve.extend([2.0] * 10)
    assert np.shares_memory(kept, case.course()) and case.course()[-1] == 2.0


# -- runs that only seem to get somewhere ----------------------------------------------------------


def falling_case(made, ratio, **more):
    return made.case(list(np.linspace(1.3, 0.8, 100)), made.steps((0, 1, 2), ratio=ratio), **more)


def test_what_falls_while_no_parameter_moves_falls_by_chance(made):
    assert progress(falling_case(made, 2e-3)).state == "slow"
    rests = progress(falling_case(made, 0.0))
    assert rests.slope == 0.0 and rests.state == "plateau" and not rests.learning
    one = falling_case(made, (0.0, 1e-3, 0.0))  # one of three matrices moves
    assert progress(one).falling


def test_two_samples_without_an_update_do_not_make_a_run_rest(made):
    case = falling_case(made, 0.0)
    del case.steps[2:]
    assert progress(case).falling


def test_updates_that_were_not_measured_are_no_rest(made):
    assert progress(falling_case(made, math.nan)).falling


@pytest.mark.parametrize(("rate", "learns"), [(0.02, True), (0.003, False)])
def test_a_young_run_learns_from_a_tenth_of_the_way_on(rate, learns):
    young = state([1.0 - rate * i for i in range(16)])
    assert young.state == "young" and (young.skill > 0.1) is learns
    assert young.learning is learns and young.doubtful is not learns


def test_losses_of_unknown_scale_learn_where_they_come_well_down(made):
    """Below a tenth less than at first; where they had both signs, well below 0."""

    def of(curve):
        return progress(made.case(list(curve), made.steps(), loss=made.call("custom")))

    n = np.arange(100)
    falls, above, below = of(1.0 - 0.02 * n), of(3.0 - 0.02 * n), of(-1.0 - 0.02 * n)
    assert falls.signed and not above.signed and not below.signed
    assert all(one.learning and not one.doubtful for one in (falls, above, below))
    rests = np.where(n < 40, 1.0 - 0.04 * n, -0.6 + 1e-3 * (-1.0) ** n)  # a likelihood, settled
    assert of(rests).signed and of(rests).learning
    reward = of(0.1 * (-1.0) ** n + 0.05 * (n < 3))
    assert reward.signed and not reward.learning and reward.doubtful
    assert not of(-1.0 + 0.01 * (-1.0) ** n).learning


def test_a_known_loss_has_its_scale_whatever_its_sign():
    assert not state([1.0 - 0.011 * i for i in range(100)]).signed


@pytest.mark.parametrize(("end", "expected"), [(0.3, "worse"), (0.2, "plateau")])
def test_only_a_run_that_lost_a_quarter_of_its_skill_got_worse(end, expected):
    """Both rose to several times their best; a skill of 0.8 is good nevertheless."""
    curve = np.r_[np.linspace(1, 0.02, 100), np.full(100, end)]
    assert state(curve).state == expected
