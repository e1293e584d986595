"""Networks against the signals that they hold: errors, what is missing, refusals."""

import dataclasses

import jax
import numpy as np
import pytest

from qejax import nets, zoo
from tests.zoo.random_zoo import random_zoo

GRID = (4, 5)


def fits(convention: str = "signed") -> zoo.Zoo:
    rules = zoo.CONVENTIONS[convention]
    net = nets.coordinate((2, 6, 1), offset=rules.offset, biases=rules.biases)
    theta = jax.vmap(net.init)(jax.random.split(jax.random.key(0), 4))
    return zoo.Zoo(
        network=net,
        thetas=jax.device_get(theta),
        labels={},
        hyper={"signal": np.array([2, 0, 70_000, 1])},
        split=np.zeros(4, np.int8),
        source="mine",
        ids=np.array(["a", "b", "c", "d"]),
    )


def shown(one: zoo.Zoo, convention: str) -> np.ndarray:
    """What the networks show, in [0, 1] and cut off."""
    rules = zoo.CONVENTIONS[convention]
    values = jax.vmap(one.network.apply, (0, None))(one.thetas, nets.grid(*GRID))
    signals = (np.asarray(values, np.float64) - rules.low) / (rules.high - rules.low)
    return np.clip(signals, 0, 1).reshape(4, *GRID, 1)


@pytest.mark.parametrize("convention", list(zoo.CONVENTIONS))
def test_errors_are_those_of_the_own_signals(convention: str) -> None:
    one = fits(convention)
    signals = shown(one, convention)[[1, 3, 0]]
    signals[2] = 0.25
    found = zoo.compare_signals(one, signals)
    assert found.missing == ("c",)
    assert found.constant == ("a",)
    assert np.isnan(found.mse).tolist() == [False, False, True, False]
    np.testing.assert_allclose(found.mse[[1, 3]], 0, atol=1e-12)
    assert found.mse[0] > 1e-4
    assert "4 networks, 3 compared" in str(found)
    assert "1 without a signal (c, ...), 1 of a constant one" in str(found)
    by_index = zoo.compare_signals(one, signals[::-1], np.array([2, 1, 0]))
    np.testing.assert_array_equal(by_index.mse, found.mse)


def test_networks_of_test_signals_have_indices_of_their_own() -> None:
    one = fits()
    one.hyper["signal"] = np.array([0, 0, 1, 2])
    one.hyper["testing"] = np.array([0, 1, 1, 0])
    signals = shown(one, "signed")
    # Number 1 of the training signals is no one's; 2 of them is.
    train = np.stack([signals[0], np.zeros((*GRID, 1)), signals[3]])
    alone = zoo.compare_signals(one, train)
    assert alone.missing == ("b", "c")
    np.testing.assert_allclose(alone.mse[[0, 3]], 0, atol=1e-12)
    both = np.concatenate([train, signals[1:3]])
    kinds = np.array([0, 0, 0, 1, 1])
    found = zoo.compare_signals(one, both, testing=kinds)
    assert found.missing == ()
    np.testing.assert_allclose(found.mse, 0, atol=1e-12)
    by_index = zoo.compare_signals(one, both, np.array([0, 1, 2, 1, 0]), kinds)
    assert by_index.mse[1:3].min() > 1e-4
    np.testing.assert_allclose(by_index.mse[[0, 3]], 0, atol=1e-12)


def test_which_signals_are_test_signals_is_checked() -> None:
    one, signals = fits(), np.zeros((3, *GRID, 1))
    with pytest.raises(ValueError, match=r"expected networks with hyper\['testing'\]"):
        zoo.compare_signals(one, signals, testing=np.zeros(3))
    one.hyper["testing"] = np.zeros(4, np.int64)
    with pytest.raises(ValueError, match=r"expected `testing` to say of each of 3"):
        zoo.compare_signals(one, signals, testing=np.zeros(2))


def test_a_set_that_holds_none_of_the_signals() -> None:
    found = zoo.compare_signals(fits(), np.zeros((2, *GRID, 1)), np.array([7, 8]))
    assert found.missing == ("a", "b", "c", "d")
    assert "0 compared, largest mean squared error none" in str(found)


@pytest.mark.parametrize(
    ("signals", "indices", "message"),
    [
        (np.zeros((3, 4, 1)), None, r"expected signals \[M, 2 axes, 1\], got"),
        (np.full((3, 4, 5, 1), 255), None, r"expected signals in \[0, 1\], got values"),
        (np.zeros((2, 4, 5, 1)), np.array([1, 1]), "expected each index once, got 1"),
        (np.zeros((2, 4, 5, 1)), np.array([1]), "expected an index a signal, got 1"),
    ],
)
def test_other_signals_are_named(
    signals: np.ndarray, indices: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.compare_signals(fits(), signals, indices)


def test_networks_without_signals_are_named() -> None:
    signals = np.zeros((3, 4, 5, 1))
    with pytest.raises(ValueError, match=r"expected coordinate networks with hyper"):
        zoo.compare_signals(random_zoo(nets.mlp((2, 4, 1), "tanh"), 2), signals)
    with pytest.raises(ValueError, match=r"the index of the signal, got Coordinate"):
        zoo.compare_signals(dataclasses.replace(fits(), hyper={}), signals)
