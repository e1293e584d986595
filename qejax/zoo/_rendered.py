"""Whether networks of signals show the signals that they are said to hold."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from qejax import nets
from qejax._typing import Array, Theta
from qejax.spaces import map_networks
from qejax.zoo._fit_config import CONVENTIONS
from qejax.zoo._zoo import Zoo


class Rendered(NamedTuple):
    """How well the networks of a zoo show their signals.

    Attributes:
        mse: `[B]`, mean squared errors of signals in [0, 1]; NaN where the signal is
            missing.
        missing: ids of networks whose signal is not in the set.
        constant: ids of networks whose signal has one value everywhere.
    """

    mse: np.ndarray
    missing: tuple[str, ...]
    constant: tuple[str, ...]

    def __str__(self) -> str:
        """Returns the counts and the largest error, in a line."""
        found = self.mse[~np.isnan(self.mse)]
        worst = f"{found.max():.1e}" if found.size else "none"
        named = f" ({', '.join(self.missing[:3])}, ...)" if self.missing else ""
        return (
            f"{len(self.mse)} networks, {len(found)} compared, largest mean squared "
            f"error {worst}, {len(self.missing)} without a signal{named}, "
            f"{len(self.constant)} of a constant one"
        )


def compare_signals(
    fits: Zoo,
    signals: np.ndarray,
    indices: np.ndarray | None = None,
    testing: np.ndarray | None = None,
) -> Rendered:
    """Renders every network and compares it with the signal that it was fitted to.

    Nothing is raised for a network whose index is outside of the set: it is named and
    counted, and all others are compared. Where `hyper["testing"]` says which networks
    are of test signals, whose indices start again from 0, those are compared with test
    signals alone.

    Args:
        fits: coordinate networks with the index of their signal, `hyper["signal"]`.
        signals: `[M, *shape, c]` in [0, 1].
        indices: `[M]`, of the signals; `0, 1, ...` if left out, of test signals too.
        testing: `[M]`, whether signals are test signals; none is if left out.

    Raises:
        ValueError: if the networks are no coordinate networks or have no index; if
            signals are not in [0, 1], have other axes or values than the networks, or
            do not have one index each; if `testing` is given for networks that do not
            say which are of test signals.

    Example:
        >>> import jax
        >>> net = nets.coordinate((2, 4, 1))
        >>> theta = jax.vmap(net.init)(jax.random.split(jax.random.key(0), 2))
        >>> fits = Zoo(net, theta, {}, {"signal": np.array([0, 9])},
        ...     np.zeros(2, np.int8), "mine", np.array(["a", "b"]))
        >>> compare_signals(fits, np.zeros((5, 8, 8, 1))).missing
        ('b',)
    """
    config = fits.network.config
    if not isinstance(config, nets.CoordinateConfig) or "signal" not in fits.hyper:
        raise ValueError(
            f"{fits.source}: expected coordinate networks with hyper['signal'], the "
            f"index of the signal, got {type(config).__name__} and {list(fits.hyper)}."
        )
    axes, channels = config.widths[0], config.widths[-1]
    if signals.ndim != axes + 2 or signals.shape[-1] != channels:
        raise ValueError(
            f"{fits.source}: expected signals [M, {axes} axes, {channels}], got "
            f"{signals.shape}."
        )
    if signals.min() < 0 or signals.max() > 1:
        raise ValueError(
            f"{fits.source}: expected signals in [0, 1], got values from "
            f"{signals.min()} to {signals.max()}. Divide bytes by 255."
        )
    rows, there = _rows(fits, len(signals), indices, testing)
    mse = np.where(there, _errors(fits, config, signals, rows), np.nan)
    flat = signals.reshape(len(signals), -1)
    constant = there & (np.ptp(flat, axis=1)[rows] == 0)
    return Rendered(
        mse,
        tuple(str(name) for name in fits.ids[~there]),
        tuple(str(name) for name in fits.ids[constant]),
    )


def _rows(
    fits: Zoo, count: int, indices: np.ndarray | None, testing: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """The row of the signal of every network, and whether there is one."""
    if testing is not None and "testing" not in fits.hyper:
        raise ValueError(
            f"{fits.source}: expected networks with hyper['testing'], which are of "
            f"test signals, got {list(fits.hyper)}. Leave out `testing`, and let "
            f"indices count training and then test signals."
        )
    kinds = np.zeros(count, bool) if testing is None else np.asarray(testing, bool)
    if kinds.shape != (count,):
        raise ValueError(
            f"{fits.source}: expected `testing` to say of each of {count} signals "
            f"whether it is a test signal, got shape {kinds.shape}."
        )
    # From 0 in the training and in the test signals.
    own = np.where(kinds, np.cumsum(kinds), np.cumsum(~kinds)) - 1
    given = own if indices is None else np.asarray(indices)
    if given.shape != (count,):
        raise ValueError(
            f"{fits.source}: expected an index a signal, got {len(given)} for "
            f"{count} signals."
        )
    # Even for training signals, odd for test signals.
    keys = 2 * given.astype(np.int64) + kinds
    order = np.argsort(keys)
    ranks = keys[order]
    if np.any(ranks[1:] == ranks[:-1]):
        twice = ranks[1:][ranks[1:] == ranks[:-1]][0] // 2
        raise ValueError(f"{fits.source}: expected each index once, got {twice} twice.")
    signal = np.asarray(fits.hyper["signal"]).astype(np.int64)
    wanted = 2 * signal + (np.asarray(fits.hyper.get("testing", 0)) != 0)
    at = np.minimum(np.searchsorted(ranks, wanted), len(ranks) - 1)
    return order[at], ranks[at] == wanted


def _errors(
    fits: Zoo, config: nets.CoordinateConfig, signals: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Mean squared errors of all networks against signals in these rows, `[B]`."""
    (rules,) = [r for r in CONVENTIONS.values() if r.offset == config.offset]
    grid = nets.grid(*signals.shape[1:-1])
    shown = signals.reshape(len(signals), grid.shape[0], -1).astype(np.float32)

    def error(one: tuple[Theta, Array]) -> Array:
        theta, signal = one
        values = fits.network.apply(theta, grid)
        return jnp.mean(((values - rules.low) / (rules.high - rules.low) - signal) ** 2)

    return np.asarray(map_networks(error, (fits.thetas, shown[rows])), np.float64)
