"""The learned gauge: from a network to another point of its orbit.

What rounds, trains or averages weights sees more than their function. Which weights
stand for the function is then a choice, and here it is learned.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from qejax import gauges, layers, spaces
from qejax._exact import exact
from qejax._loops import beside
from qejax._typing import Array, Float, Leaves, Scalar, Theta
from qejax.groups import GROUPS
from qejax.models._choices import (
    CHOICES,
    FASTEST,
    Numbers,
    elements,
    nothing_spent,
    within,
)
from qejax.models._gauge_config import GaugeConfig, Kind, check
from qejax.models._slopes import Moments, no_moments, slopes, told_by
from qejax.spaces import Elements, UnitSpace, WeightSpec

Loss = Callable[[Theta], Scalar]
"""What sees the weights of a network and not only its function."""


class Start(NamedTuple):
    """Where a gauge moves on from; nothing trained.

    Attributes:
        element: that leads there.
        theta: the weights there.
    """

    element: Elements
    theta: Theta


class Path(NamedTuple):
    """Where a gauge went, with a loss to tell it.

    Attributes:
        element: that leads to the best of its points, from the weights that were given.
        losses: `[rounds + 1]`, at the start and after every round. Their gradient by
            the parameters of the map is that of the round alone that led there.
    """

    element: Elements
    losses: Float[Array, " K"]


class Gauge(nnx.Module):
    """Chooses weights that compute the same function: `F(theta) = alpha(theta) theta`.

    `alpha(theta)` is an element of the group of `spec`, whatever the parameters are, so
    the function of `F(theta)` is that of `theta`: positive scales of units, signs,
    invertible matrices of heads and adapters, rotations of streams, and with `order`
    permutations. Shifts and half periods are taken off. Matrices that `alpha` adds to
    `start` have condition numbers up to 1e5. For every `g` of the group,

    - "gauge": `alpha(g theta) = p alpha(theta) g^-1`, with `p` a permutation (the
      identity with `order`), so that one network is chosen for all weights of one
      function, up to what `sweeps` leave of balancing. What no rule of `start` fixes
      stays as it came: signs of units, and of the principal axes of heads, which
      `hadamard` spreads over a head; where sizes of norms reach the weights of heads
      (gated language models), a rotation of these.
    - "strict": `alpha(g theta) = g alpha(theta) g^-1`, so that
      `F(g theta) = g F(theta)`: it goes where "gauge" goes, moves on, and goes back. It
      cannot choose, and what sees the weights is as bad behind it as they came.

    `alpha = h_K ... h_1 kappa`: `kappa` is what the rules of `start` ask for, and `h_k`
    reads how large the weights of each unit are at the point that it moves
    (`qejax.layers.profile`); every unit is told of the means over all units. With a
    `loss` of weights, `h_k` also reads its slope along the orbit (by scales of units,
    by generators of matrices) and its running moments, and the best of the points is
    taken: a learned descent on the orbit, of `rounds` gradients.

    One network, no batch axis (batch with `jax.vmap`). With `order`, `shard_map` needs
    `check_vma=False`, see `gauges.assigned`.

    Args:
        spec: the weight space, with any groups.
        kind: see above.
        config: everything else.
        rngs: `params` is used.

    Raises:
        ValueError: if `kind` or a rule is unknown, a number of the config is not
            positive, or "strict" is asked for an order.

    Source: Tran et al. 2026, arXiv:2604.23720 (group-valued maps); Andrychowicz et al.
        2016, arXiv:1606.04474 (learned descent); ours on orbits.

    Example:
        >>> from qejax import nets
        >>> net = nets.mlp((4, 8, 2), activation="relu")
        >>> gauge = Gauge(net.spec, rngs=nnx.Rngs(0))
        >>> theta, x = net.init(jax.random.key(0)), jnp.ones((1, 4))
        >>> change = net.apply(gauge(theta), x) - net.apply(theta, x)
        >>> bool(abs(change).max() < 1e-5)
        True
    """

    def __init__(
        self,
        spec: WeightSpec,
        kind: Kind = "gauge",
        *,
        config: GaugeConfig | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        config = config or GaugeConfig()
        check(kind, config)
        self.spec, self.kind, self.config = spec, kind, config
        options: dict[str, Any] = {"param_dtype": config.param_dtype, "rngs": rngs}
        hidden = config.hidden
        known = layers.PER_LEAF * len(spec.leaves) + config.rounds
        self.known = layers.linear(known, hidden, **options)
        self.globe = layers.linear(hidden * (1 + len(spec.spaces)), hidden, **options)
        self.read, self.told, self.mix = nnx.Dict(), nnx.Dict(), nnx.Dict()
        self.one, self.left, self.right = nnx.Dict(), nnx.Dict(), nnx.Dict()
        self.rate, self.places, self.numbers = nnx.Dict(), nnx.Dict(), nnx.Dict()
        for space in spec.spaces:
            name, width = space.name, layers.profile_width(spec, space.name)
            self.read[name] = layers.linear(width + 1, hidden, **options)
            self.told[name] = layers.linear(hidden, hidden, **options)
            self.mix[name] = layers.linear(hidden, hidden, **options)
            choice = CHOICES.get(space.group)
            if choice is not None:
                self.one[name] = _zeros(hidden, 1, **options)
                self.rate[name] = _zeros(hidden, 1, **options)
            if choice is not None and choice.pairs:
                self.left[name] = _zeros(hidden, config.rank, **options)
                self.right[name] = layers.linear(hidden, config.rank, **options)
                self.numbers[name] = _table(space, hidden, **options)
            if config.order and GROUPS[space.group].monomial is not None:
                self.places[name] = _table(space, hidden, **options)

    @exact
    def start(self, theta: Theta) -> Start:
        """Returns the point from which the map moves on: exact, nothing trained.

        Args:
            theta: weights of one network.

        Raises:
            ValueError: if `theta` does not fit the spec.
        """
        config = self.config
        return Start(
            *gauges.reached(self.spec, theta, config.start, sweeps=config.sweeps)
        )

    @exact
    def path(self, start: Start, loss: Loss | None = None) -> Path:
        """Returns where the map goes from a start.

        Args:
            start: of one network.
            loss: what it goes down; without one it reads the weights alone, `losses`
                is empty, and its last point is taken.
        """
        spec = self.spec
        leaves = spaces.views(spec, start.theta)
        dtype = jnp.result_type(*leaves.values())
        identity = spaces.identity(spec, dtype)

        def weights(leaves: Leaves) -> Theta:
            return spaces.from_views(spec, leaves, start.theta)

        def move(state: _Walk, number: Array) -> tuple[_Walk, Scalar]:
            value, state = _seen(loss, weights, state)
            numbers, moments = self._numbers(state, number, loss is not None)
            numbers, spent = within(numbers, state.spent)
            h = identity | elements(spec, numbers)
            moved = {
                leaf.path: spaces.act_leaf(leaf, spec, h, state.leaves[leaf.path])
                for leaf in spec.leaves
            }
            g = spaces.mul(spec, h, state.g)
            state = state._replace(g=g, leaves=moved, moments=moments, spent=spent)
            return state, value

        walk = _Walk(
            g=identity,
            leaves=leaves,
            moments=no_moments(spec, dtype),
            spent=nothing_spent(spec, dtype),
            best=identity,
            least=jnp.asarray(jnp.inf, dtype),
            gradient=leaves,
        )
        rounds = jnp.eye(self.config.rounds, dtype=dtype)
        walk, losses = lax.scan(move, beside(walk, leaves), rounds)
        found = walk.g
        if loss is not None:
            last, walk = _seen(loss, weights, walk)
            losses = jnp.concatenate([losses, last[None]])
            found = walk.best
        if self.places:
            order = identity | self._order(leaves)
            found = spaces.mul(spec, order, found)
        whole = spaces.mul(spec, found, start.element)
        if self.kind == "strict":
            whole = spaces.mul(spec, spaces.inv(spec, start.element), whole)
        return Path(whole, losses if loss is not None else losses[:0])

    def alpha(self, theta: Theta, loss: Loss | None = None) -> Elements:
        """Returns the element that `F` moves `theta` by; see `path`."""
        return self.path(self.start(theta), loss).element

    def __call__(self, theta: Theta, loss: Loss | None = None) -> Theta:
        """Returns `alpha(theta) theta`.

        Args:
            theta: weights of one network.
            loss: see `path`; such as what a network loses when it is rounded, on a few
                inputs or on random ones.

        Raises:
            ValueError: if `theta` does not fit the spec.
        """
        return spaces.act(self.spec, self.alpha(theta, loss), theta)

    def _features(
        self, leaves: Leaves, number: Array, told: dict[str, Numbers]
    ) -> dict[str, Array]:
        """What every unit knows, `[.., n, H]` by unit space."""
        found = layers.profile(self.spec, leaves)
        known = self.known(jnp.concatenate([found.globe, number]))
        units: dict[str, Array] = {}
        for space in self.spec.spaces:
            own = found.units[space.name]
            none = jnp.zeros(own.shape[:-1], own.dtype)
            slope = told[space.name].one if space.name in told else none
            h = self.read[space.name](jnp.concatenate([own, slope[..., None]], -1))
            if space.name in self.numbers:
                table = self.numbers[space.name][...].astype(h.dtype)
                h = h + jnp.broadcast_to(table, h.shape)
            units[space.name] = jax.nn.silu(h)
        means = [jnp.mean(h.reshape(-1, h.shape[-1]), 0) for h in units.values()]
        globe = jax.nn.silu(self.globe(jnp.concatenate([known, *means])))
        return {
            name: h + jax.nn.silu(self.mix[name](h) + _wide(self.told[name](globe), h))
            for name, h in units.items()
        }

    def _numbers(
        self, walk: "_Walk", number: Array, down: bool
    ) -> tuple[dict[str, Numbers], Moments]:
        """One step, as numbers of every space in which anything is chosen."""
        told, moments = walk.moments.mean, walk.moments
        if down:
            found = slopes(self.spec, walk.leaves, walk.gradient)
            told, moments = told_by(walk.moments, found)
        features = self._features(walk.leaves, number, told)
        numbers = {}
        for name, head in self.one.items():
            h, slope = features[name], told[name]
            rate = jnp.clip(self.rate[name](h), -FASTEST, FASTEST)
            rate = self.config.rate * jnp.exp(rate)
            one = head(h)[..., 0] - rate[..., 0] * slope.one
            pairs = slope.pairs
            if name in self.left:
                left, right = self.left[name](h), self.right[name](h)
                made = jnp.matmul(left, right.mT) / self.config.rank**0.5
                pairs = made - (rate + rate.mT) / 2 * slope.pairs
            numbers[name] = Numbers(one, pairs)
        return numbers, moments

    def _order(self, leaves: Leaves) -> Elements:
        """Units in the places that suit them best."""
        number = jnp.zeros(self.config.rounds, jnp.result_type(*leaves.values()))
        features = self._features(leaves, number, {})
        identity = spaces.identity(self.spec, number.dtype)
        found = {}
        for name, places in self.places.items():
            h = features[name]
            cost = -jnp.einsum("ph,...uh->...pu", places[...].astype(h.dtype), h)
            put = gauges.assigned if cost.ndim == 2 else jax.vmap(gauges.assigned)
            perm, host = put(cost), self.spec.space_by_name[name].per
            if host in found:  # An element is indexed by the new place of its host.
                perm = perm[found[host].perm]
            found[name] = identity[name]._replace(perm=perm)
        return found


class _Walk(NamedTuple):
    """Where a path is: what it came by, and what it saw."""

    g: Elements
    leaves: Leaves
    moments: Moments
    spent: dict[str, Array]
    best: Elements
    least: Scalar
    gradient: Leaves


def _seen(
    loss: Loss | None, weights: Callable[[Leaves], Theta], walk: _Walk
) -> tuple[Scalar, _Walk]:
    """The loss where a path is; its gradient and the best point are kept.

    Nothing is differentiated twice: what led here feels the gradient at this point
    alone.
    """
    if loss is None:
        return jnp.zeros_like(walk.least), walk
    still = lax.stop_gradient(walk.leaves)
    value, gradient = jax.value_and_grad(lambda x: loss(weights(x)))(still)
    value, gradient = lax.stop_gradient((value.astype(walk.least.dtype), gradient))
    off = {path: x - still[path] for path, x in walk.leaves.items()}
    felt = sum((jnp.sum(gradient[path] * x) for path, x in off.items()), value)
    better = value < walk.least
    best = jax.tree.map(lambda a, b: jnp.where(better, a, b), walk.g, walk.best)
    least = jnp.where(better, value, walk.least)
    return felt, walk._replace(leaves=still, gradient=gradient, best=best, least=least)


def _wide(row: Array, like: Array) -> Array:
    return jnp.broadcast_to(row, like.shape)


def _zeros(fan_in: int, channels: int, **options: Any) -> nnx.Linear:
    """A dense layer whose output is zero at first: nothing is moved then."""
    layer = layers.linear(fan_in, channels, **options)
    layer.kernel[...] = jnp.zeros_like(layer.kernel[...])
    return layer


def _table(
    space: UnitSpace, hidden: int, *, param_dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.Param:
    """A learned row for each unit."""
    draw = jax.random.normal(rngs.params(), (space.size, hidden), param_dtype)
    return nnx.Param(draw)
