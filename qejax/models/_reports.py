"""Numbers about predictors: sizes, and what reaches a group-valued map."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from qejax import _trees
from qejax._typing import Theta
from qejax.models._config import PredictorConfig
from qejax.models._predictor import Predictor
from qejax.models._trunks import Quasi
from qejax.nets import Network
from qejax.spaces import WeightSpec


def num_parameters(model: nnx.Module | Callable[[], nnx.Module]) -> int:
    """Returns the number of trained scalars of a module, or of what a function makes.

    A function is not run: nothing is allocated.
    """
    if isinstance(model, nnx.Module):
        return _trees.num_parameters(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    shapes = nnx.eval_shape(model)
    return _trees.num_parameters(nnx.to_pure_dict(nnx.state(shapes, nnx.Param)))


def sizes_for(
    spec: WeightSpec,
    quasi: Quasi,
    num: int,
    *,
    network: Network | None = None,
    config: PredictorConfig | None = None,
    tolerance: float = 0.05,
) -> tuple[int, PredictorConfig]:
    """Returns the channels and the config at which a predictor has `num` parameters.

    For comparisons at equal size. As many channels as fit; what is left, less than a
    channel, widens the hidden layer of the head.

    Args:
        spec: the weight space.
        quasi: kind of the predictor.
        num: of parameters.
        network: as in `Predictor`.
        config: as in `Predictor`; its `hidden` is the least.
        tolerance: largest relative difference that is accepted.

    Raises:
        ValueError: if no choice comes as close; says which comes closest.
    """
    start = config or PredictorConfig()

    @functools.cache
    def size(channels: int, hidden: int) -> int:
        def build() -> Predictor:
            return Predictor(
                spec,
                channels,
                quasi,
                network=network,
                config=replace(start, hidden=hidden),
                rngs=_OneKey(0),
            )

        return num_parameters(build)

    channels = _largest(lambda count: size(count, start.hidden), num)
    hidden = _largest(lambda width: size(channels, width), num)
    best = min(
        (max(hidden, start.hidden), hidden + 1),
        key=lambda width: abs(size(channels, width) - num),
    )
    got = size(channels, best)
    if abs(got - num) > tolerance * num:
        raise ValueError(
            f"sizes_for: no number of channels gives {num} parameters within "
            f"{tolerance:.0%}; the closest, {channels}, gives {got}. Change the widths "
            f"of the head (embed, hidden, heads)."
        )
    return channels, replace(start, hidden=best)


def _largest(size: Callable[[int], int], num: int) -> int:
    """The largest number from 1 whose size is at most `num`; 1 if there is none.

    Sizes never fall. Five calls where they are a polynomial of degree 2 at most, as
    those of layers are: three to know it, two to see that its answer holds. Where they
    are not, more calls and the same answer.
    """
    if size(2) > num:
        return 1
    first = size(1)
    step = max(size(2) - first, 1)
    bend = max(size(3) - size(2) - step, 0)

    def expected(count: int) -> int:
        above = count - 1
        return first + step * above + bend * above * (above - 1) // 2

    return _search(size, num, _search(expected, num, 1))


def _search(size: Callable[[int], int], num: int, start: int) -> int:
    """As `_largest`, from `start` in steps that double, then by halves."""
    low, high, step = start, start + 1, 1
    while low > 1 and size(low) > num:
        low, high, step = max(low - step, 1), low, 2 * step
    while size(high) <= num:
        low, high, step = high, high + step, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= num else (low, middle)
    return low


class _OneKey(nnx.Rngs):
    """Gives its one key again and again: shapes need no more.

    Counting the keys of a trace takes longer than all the rest of it.
    """

    def params(self) -> jax.Array:
        """Returns the key."""
        return self["default"].key[...]


def alpha_gradient_report(predictor: Predictor, thetas: Theta) -> dict[str, float]:
    """Says whether a group-valued map receives any gradient.

    Root mean square, over parameters, of the gradient of the variance of the scores
    over the networks: of the parameters of every `alpha`, and of the rest of the trunk.
    A gauge map under an invariant head has a zero gradient up to rounding.

    Args:
        predictor: of a kind with a group-valued map.
        thetas: leaves `[B, ...]`.

    Returns:
        `{"alpha", "rest", "ratio"}`; all 0 where there is no such map.
    """
    graph, params, rest = nnx.split(predictor, nnx.Param, ...)
    prepared = jax.jit(jax.vmap(predictor.prepare))(thetas)

    def objective(params: Any, prepared: Any) -> jax.Array:
        model = nnx.merge(graph, params, rest)
        return jnp.var(jax.vmap(model.read)(prepared))

    gradient = jax.jit(jax.grad(objective))(nnx.to_pure_dict(params), prepared)
    square = {"alpha": 0.0, "rest": 0.0}
    count = {"alpha": 0, "rest": 0}
    for path, leaf in _trees.flatten(gradient).items():
        if path.startswith("trunk/"):
            name = "alpha" if "alpha" in path.split("/") else "rest"
            square[name] += float(jnp.sum(leaf**2))
            count[name] += leaf.size
    mean = {k: (square[k] / max(count[k], 1)) ** 0.5 for k in square}
    ratio = mean["alpha"] / mean["rest"] if mean["rest"] else 0.0
    return {**mean, "ratio": ratio}
