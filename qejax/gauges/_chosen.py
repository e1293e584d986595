"""The element that hand-made rules lead to, one after another."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from qejax._exact import exact
from qejax._loops import beside
from qejax._typing import Array, Leaves, PRNGKeyArray, Theta
from qejax.gauges._rules import RULES, Rule
from qejax.spaces import (
    Elements,
    Rows,
    UnitSpace,
    WeightSpec,
    act_shift,
    from_views,
    identity,
    move_space,
    mul,
    mul_space,
    rows_of,
    views,
)


@exact
def chosen(
    spec: WeightSpec,
    theta: Theta,
    rules: Sequence[str],
    *,
    sweeps: int = 10,
    key: PRNGKeyArray | None = None,
) -> Elements:
    """Returns the element `g` for which `act(spec, g, theta)` is what rules ask for.

    The function of `act(spec, g, theta)` is that of `theta`, whatever the rules. Units
    stay in order, signs and phases as they are. A unit of which weights that a rule
    measures (incoming or outgoing ones) are all zero keeps its size.

    One network, no batch axis (batch with `jax.vmap`).

    Args:
        spec: the weight space.
        theta: weights of one network.
        rules: names of `RULES`, applied in this order.
        sweeps: over all unit spaces, of rules whose choices depend on one another.
        key: for random rotations; `jax.random.key(0)` by default.

    Raises:
        ValueError: if a rule is unknown, `sweeps` is less than 1, or `theta` does not
            fit `spec`.

    Example:
        >>> from qejax import nets, spaces
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> theta = net.init(jax.random.key(0))
        >>> g = chosen(net.spec, theta, ["equalised"])
        >>> even = spaces.act(net.spec, g, theta)
        >>> top = abs(even["layer_00"]["kernel"]).max(0)
        >>> bool(abs(top - abs(even["layer_01"]["kernel"]).max(1)).max() < 1e-6)
        True
    """
    return reached(spec, theta, rules, sweeps=sweeps, key=key)[0]


@exact
def reached(
    spec: WeightSpec,
    theta: Theta,
    rules: Sequence[str],
    *,
    sweeps: int = 10,
    key: PRNGKeyArray | None = None,
) -> tuple[Elements, Theta]:
    """Returns the element that `chosen` returns, and the weights that it leads to.

    What was taken off is exactly zero in these weights. The action of the element on
    `theta` leaves what rounding leaves.

    Args:
        spec: as for `chosen`.
        theta: likewise.
        rules: likewise.
        sweeps: likewise.
        key: likewise.

    Raises:
        ValueError: as `chosen`.
    """
    unknown = [name for name in rules if name not in RULES]
    if unknown:
        raise ValueError(
            f"chosen(rules=...): expected some of {list(RULES)}, got {unknown[0]!r}."
        )
    if sweeps < 1:
        raise ValueError(f"chosen(sweeps=...): expected at least 1, got {sweeps}.")
    leaves = views(spec, theta)
    dtype = jnp.result_type(*leaves.values())
    key = jax.random.key(0) if key is None else key
    state = beside((identity(spec, dtype), leaves), leaves)
    for name in rules:
        rule = RULES[name]

        def sweep(
            _: Any, state: tuple[Elements, Leaves], rule: Rule = rule
        ) -> tuple[Elements, Leaves]:
            return swept(spec, rule, state, key)

        state = jax.lax.fori_loop(0, sweeps if rule.again else 1, sweep, state)
    return state[0], from_views(spec, state[1], theta)


def swept(
    spec: WeightSpec, rule: Rule, state: tuple[Elements, Leaves], key: PRNGKeyArray
) -> tuple[Elements, Leaves]:
    """Returns the element and the leaves behind one sweep of a rule."""
    for number, space in enumerate(spec.spaces):
        if space.group not in rule.by_group:
            continue
        choose, own = rule.by_group[space.group], jax.random.fold_in(key, number)
        rows = rows_of(spec, space.name, state[1])
        h = of_space(space, rows, lambda x, c=choose, k=own: c(x, k))
        state = followed(spec, space, h, state)
    for shift in spec.shifts if rule.clears else ():
        g, leaves = state
        x = leaves[shift.leaf]
        t = -(jnp.mean(x, shift.along) if shift.along else x)
        one = identity(spec, t.dtype) | {shift.name: t}
        state = mul(spec, one, g), act_shift(spec, shift, t, leaves)
    return state


def of_space(
    space: UnitSpace, rows: Sequence[Rows], choose: Callable[[Sequence[Rows]], Any]
) -> Any:
    """Returns what is chosen from rows `[n, R]`, one for each unit of a host."""

    def one(values: list[Array]) -> Any:
        pairs = zip(rows, values, strict=True)
        return choose([row._replace(values=x) for row, x in pairs])

    values = [row.values for row in rows]
    return one(values) if space.per is None else jax.vmap(one)(values)


def followed(
    spec: WeightSpec, space: UnitSpace, h: Any, state: tuple[Elements, Leaves]
) -> tuple[Elements, Leaves]:
    """Returns the element and the leaves behind one more element of one space.

    Args:
        spec: the weight space.
        space: which no other space's units are per, or whose units `h` keeps in order.
        h: an element of it.
        state: the element so far, and what it makes of the leaves.
    """
    g, leaves = state
    name = space.name
    moved = move_space(spec, name, h, leaves)
    return {**g, **mul_space(spec, name, h, g)}, leaves | moved
