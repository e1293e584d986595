"""Flax modules as functions of their weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from qejax._typing import Theta


class Function(NamedTuple):
    """A module as a pure function.

    Attributes:
        apply: `(theta, *inputs) -> outputs`.
        theta: its weights as a tree with string or integer keys.
    """

    apply: Callable[..., Any]
    theta: Theta


def is_module(model: Any) -> bool:
    """Whether it is a Flax module, of Linen or NNX."""
    return isinstance(model, nn.Module | nnx.Module)


def function_of(model: Any, inputs: tuple[Any, ...]) -> Function:
    """Returns a module as a function of its floating variables.

    Of Linen, weights are drawn with `init`; where there are more collections than
    `params` (statistics of batches), the tree has them all. Of NNX they are those that
    the module has. Keys, counters and integers are no weights and stay as they are.

    Raises:
        ValueError: if the module has no floating variable.
    """
    if isinstance(model, nn.Module):
        return _linen(model, inputs)
    return _nnx(model)


def _linen(model: nn.Module, inputs: tuple[Any, ...]) -> Function:
    variables = nn.unbox(model.init(jax.random.key(0), *inputs))
    moving, still = _apart(variables)
    alone = set(variables) == {"params"} and not still

    def apply(theta: Theta, *inputs: Any) -> Any:
        whole = {"params": theta} if alone else _together(theta, still)
        return model.apply(whole, *inputs)

    return Function(apply, _some(moving["params"] if alone else moving))


def _nnx(model: nnx.Module) -> Function:
    graph, state = nnx.split(model)
    moving, still = _apart(nnx.to_pure_dict(state))

    def apply(theta: Theta, *inputs: Any) -> Any:
        whole = nnx.split(model)[1]
        nnx.replace_by_pure_dict(whole, _together(theta, still))
        return nnx.merge(graph, whole)(*inputs)

    return Function(apply, _some(moving))


def _some(theta: Theta) -> Theta:
    if not jax.tree.leaves(theta):
        raise ValueError(
            "derive_spec: the module should have floating variables, got none. Pass a "
            "module with parameters."
        )
    return theta


def _apart(tree: Any) -> tuple[Any, dict[tuple[Any, ...], Any]]:
    """Floating leaves as a nested dict, and the others by key path."""
    moving: dict[Any, Any] = {}
    still: dict[tuple[Any, ...], Any] = {}

    def walk(node: Any, path: tuple[Any, ...], into: dict[Any, Any]) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                child: dict[Any, Any] = {}
                walk(value, (*path, key), child)
                if child:
                    into[key] = child
            elif jnp.issubdtype(value.dtype, jnp.floating):
                into[key] = value
            else:
                still[(*path, key)] = value

    walk(tree, (), moving)
    return moving, still


def _together(moving: Any, still: dict[tuple[Any, ...], Any]) -> Any:
    """Undoes `_apart`."""

    def copy(node: Any) -> Any:
        return {k: copy(v) for k, v in node.items()} if isinstance(node, dict) else node

    whole = copy(moving)
    for (*path, last), value in still.items():
        node = whole
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    return whole
