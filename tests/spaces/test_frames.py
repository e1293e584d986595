"""The linear algebra of normal forms, against NumPy, and where ranks are not full."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from qejax.spaces import Axis, Leaf, UnitSpace, WeightSpec
from qejax.spaces import _frames as frames
from tests.layer_specs import fast_jit

WIDTH = 3
balanced, product = fast_jit(frames.balanced), fast_jit(frames.product)


def drawn(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


def close(got, expected, atol=1e-12):
    np.testing.assert_allclose(np.asarray(got), expected, atol=atol)


def test_balanced_shares_the_singular_values():
    """Of two heads at once; the product is that of the sides."""
    writers, readers = drawn(2, 5, WIDTH), drawn(2, 4, WIDTH, seed=1)
    u, v = (np.asarray(x) for x in balanced(writers, readers))
    close(u @ v.swapaxes(-1, -2), writers @ readers.swapaxes(-1, -2))
    values = np.linalg.svd(u @ v.swapaxes(-1, -2), compute_uv=False)[:, :WIDTH]
    for x in (u, v):
        close(x.swapaxes(-1, -2) @ x, values[..., None] * np.eye(WIDTH))
    assert np.all(np.diff(values) < 0)


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e6])
@pytest.mark.parametrize("side", [0, 1])
def test_a_zero_singular_value_is_zero_in_both_in_every_basis(side, condition):
    """Told by the rank of either side: no change of basis blurs it."""
    sides = [drawn(5, WIDTH), drawn(4, WIDTH, seed=1)]
    sides[side][:, 2] = sides[side][:, :2] @ [1, 2]
    q, r = (np.linalg.qr(drawn(WIDTH, WIDTH, seed=n))[0] for n in (2, 3))
    basis = q * condition ** np.linspace(-0.5, 0.5, WIDTH) @ r
    moved = sides[0] @ basis, sides[1] @ np.linalg.inv(basis).T
    u, v = (np.asarray(x) for x in balanced(*map(jnp.asarray, moved)))
    for x in (u, v):
        assert np.all(x[:, 2] == 0)
        assert np.min(np.linalg.norm(x[:, :2], axis=0)) > 1e-2
    close(u @ v.T, sides[0] @ sides[1].T, atol=1e-13 * max(condition, 10))


def test_control_a_small_singular_value_is_kept():
    writers = drawn(5, WIDTH)
    writers[:, 2] = writers[:, 1] + 1e-10 * writers[:, 2]
    u, v = balanced(jnp.asarray(writers), jnp.asarray(drawn(4, WIDTH, seed=1)))
    assert np.min(np.linalg.norm(np.asarray(u), axis=0)) > 1e-6
    assert np.min(np.linalg.norm(np.asarray(v), axis=0)) > 1e-6


@pytest.mark.parametrize("rows", [2, 5])
def test_sides_with_fewer_rows_than_columns(rows):
    writers, readers = drawn(rows, WIDTH), drawn(4, WIDTH, seed=1)
    u, values, v = (np.asarray(x) for x in product(writers, readers))
    assert (u.shape, v.shape) == ((rows, WIDTH), (4, WIDTH))
    assert np.count_nonzero(values) == min(rows, WIDTH)
    close(u * values @ v.T, writers @ readers.T)


def test_zeros_are_zeros():
    writers = drawn(5, WIDTH)
    writers[1:3] = 0
    for readers in (drawn(4, WIDTH, seed=1), 0 * drawn(4, WIDTH)):
        u, v = (np.asarray(x) for x in balanced(writers, readers))
        assert np.all(u[1:3] == 0)
        assert np.all(np.isfinite([*u, *v]))
        assert np.any(u) == np.any(v) == np.any(readers)


def stream(ones: bool) -> tuple[WeightSpec, dict[str, Any], np.ndarray]:
    spec = WeightSpec(
        (UnitSpace("stream", 4, "orthogonal_ones" if ones else "orthogonal"),),
        (
            Leaf("write", (Axis(5), Axis(4, "stream", 1))),
            Leaf("read", (Axis(4, "stream", -1), Axis(3))),
        ),
    )
    leaves = {leaf.path: drawn(*leaf.view, seed=len(leaf.path)) for leaf in spec.leaves}
    frame = frames.principal_frame(leaves, frames.touches(spec, "stream"), ones)
    return spec, leaves, np.asarray(frame)


@pytest.mark.parametrize("ones", [False, True])
def test_the_principal_frame_turns_all_rows_to_their_axes(ones):
    _, leaves, frame = stream(ones)
    close(frame @ frame.T, np.eye(4))
    rows = [leaves["write"], (1 + 0.5 * np.sin(1)) ** 0.5 * leaves["read"].T]
    gram = sum(
        x.T @ x / np.sum(leaves[p] ** 2) for x, p in zip(rows, leaves, strict=True)
    )
    turned = frame @ gram @ frame.T
    if ones:
        close(frame @ np.ones(4), np.ones(4))
        basis = np.linalg.qr(np.eye(4) - 0.25)[0][:, :3]
        inner = np.linalg.eigvalsh(basis.T @ gram @ basis)
        close(np.linalg.eigvalsh(basis.T @ turned @ basis), inner)
    else:
        close(turned, np.diag(np.linalg.eigvalsh(gram)[::-1]))


def test_signs_are_those_of_a_moment_that_is_clear():
    v = drawn(6)
    weights = 1 + 0.5 * np.sin(1 + np.arange(6))
    rows = np.stack([v, -v, np.zeros(6), 1e-30 * v])
    sign = np.asarray(fast_jit(lambda x: frames.odd_sign(x, weights))(rows))
    np.testing.assert_array_equal(sign, np.sign(weights @ v) * np.array([1, -1, 0, 1]))
    # Antisymmetric: neither moment tells.
    pair = np.array([[1.0, -1.0], [2.0, -1.0]])
    told = np.asarray(fast_jit(lambda x: frames.odd_sign(x, np.ones(2)))(pair))
    np.testing.assert_array_equal(told, [0, 1])


def test_weights_of_rows_are_equal_along_axes_that_move():
    spec = WeightSpec(
        (UnitSpace("units", 3), UnitSpace("rank", 2, "general_linear")),
        (Leaf("a", (Axis(3, "units", -1), Axis(4), Axis(2, "rank", 1))),),
    )
    (touch,) = frames.touches(spec, "rank")
    weights = touch.weights(0).reshape(3, 4)
    np.testing.assert_array_equal(weights, np.broadcast_to(weights[:1], (3, 4)))
    assert len(set(weights[0])) == 4
    x = drawn(3, 4, 2)
    np.testing.assert_array_equal(touch.back(touch.rows(jnp.asarray(x))), x)
