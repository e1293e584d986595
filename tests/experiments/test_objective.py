import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.predict_accuracy.objective import fit_scale, pairwise_loss


def test_the_loss_is_least_where_the_scores_say_what_is_known():
    accuracy = jnp.array([0.2, 0.21, 0.6, 0.9])
    scores = jnp.zeros(4)
    gradient = jax.jit(jax.grad(lambda s: pairwise_loss(s, accuracy, 100)))
    for _ in range(3000):
        scores -= 0.5 * gradient(scores)
    assert np.all(np.diff(scores) > 0)
    # One point apart over 100 images is nearly a coin toss, 30 points are not.
    gaps = np.diff(scores)
    assert gaps[0] < 0.2 < 1.0 < gaps[2]


def test_the_loss_sees_ranks_and_no_unit():
    accuracy = jnp.array([0.1, 0.5, 0.9])
    right, wrong = jnp.array([0.0, 1.0, 2.0]), jnp.array([2.0, 1.0, 0.0])
    assert pairwise_loss(right, accuracy, 100) < pairwise_loss(wrong, accuracy, 100)
    shifted = pairwise_loss(right + 7.0, accuracy, 100)
    np.testing.assert_allclose(shifted, pairwise_loss(right, accuracy, 100))


def test_equal_networks_have_a_finite_gradient():
    gradient = jax.grad(lambda s: pairwise_loss(s, jnp.zeros(3), 100))(jnp.ones(3))
    np.testing.assert_array_equal(np.isfinite(gradient), np.ones(3, bool))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_scale_keeps_the_order_of_the_scores(sign):
    rng = np.random.default_rng(0)
    train = np.round(rng.uniform(0.1, 0.9, 200), 1)  # tied accuracies
    scores = rng.normal(size=40)
    scale = fit_scale(scores, 0.5 + sign * 0.1 * scores, train)
    points = np.linspace(-30, 30, 500)
    assert np.all(np.diff(scale(points)) > 0)


def test_a_scale_finds_the_accuracies_that_the_scores_came_from():
    rng = np.random.default_rng(0)
    train = rng.beta(2, 3, 4000)
    truth = np.sort(train)[200:-200:50]
    z = np.asarray(jax.scipy.special.ndtri((np.arange(4000) + 0.5) / 4000))
    scores = 3.0 * z[200:-200:50] - 1.0
    scale = fit_scale(scores, truth, train)
    np.testing.assert_allclose(scale(scores), truth, atol=1e-3)


def test_constant_scores_have_a_scale():
    scale = fit_scale(np.ones(5), np.linspace(0, 1, 5), np.linspace(0, 1, 9))
    assert np.isfinite(scale(np.ones(5))).all()
