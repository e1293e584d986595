"""Low-rank adapters whose base is not known: what they add, and no more.

Files of adapters rarely come with the network that they adapt. The function here is the
change of every kernel, `x -> scale (x a) b`, module by module: two sets of adapters
with the same function change any base in the same way. See `_adapter.py` for adapters
of a network that is known.

Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from qejax import _trees
from qejax._typing import Array, Float, PRNGKeyArray, Theta
from qejax.nets._lora_config import LoraConfig
from qejax.nets._network import After, Network
from qejax.spaces import Axis, Leaf, Part, check_theta, low_rank


class Lora(Network):
    """Adapters of an unknown network, as pure functions; see `lora`."""

    config: LoraConfig

    def init(self, key: PRNGKeyArray, dtype: DTypeLike = "float32") -> Theta:
        """Returns adapters that add nothing yet: `a` normal, `b` zero.

        The variance of `a` is `1 / inputs`.
        """
        leaves: dict[str, Array] = {}
        for number, (name, inputs, outputs, rank) in enumerate(self.config.modules):
            draw = jax.random.normal(
                jax.random.fold_in(key, number), (inputs, rank), dtype
            )
            leaves[f"{name}/lora_a"] = draw / math.sqrt(inputs)
            leaves[f"{name}/lora_b"] = jnp.zeros((rank, outputs), dtype)
        return _trees.nest(leaves)

    def changes(self, theta: Theta) -> dict[str, Float[Array, "n m"]]:
        """Returns what is added to the kernel of every module, `[inputs, outputs]`.

        Raises:
            ValueError: if `theta` does not fit the spec.
        """
        check_theta(self.spec, theta)
        return {
            module[0]: scale * theta[module[0]]["lora_a"] @ theta[module[0]]["lora_b"]
            for module, scale in zip(
                self.config.modules, self.config.scales, strict=True
            )
        }

    def run(self, theta: Theta, x: Array, after: After) -> Array:
        """Returns what is added to the outputs of all modules, side by side.

        Args:
            theta: weights of one network.
            x: `[N, sum of inputs]`, the inputs of all modules side by side.
            after: not called, nothing is between `a` and `b`.

        Returns:
            `[N, sum of outputs]`.

        Raises:
            ValueError: if `theta` does not fit the spec, or `x` the modules.
        """
        check_theta(self.spec, theta)
        modules = self.config.modules
        ends = list(itertools.accumulate(inputs for _, inputs, _, _ in modules))
        if x.ndim != 2 or x.shape[1] != ends[-1]:
            raise ValueError(
                f"lora: expected the inputs of {len(modules)} modules side by side, "
                f"[N, {ends[-1]}], got {tuple(x.shape)}."
            )
        parts = [
            scale * ((part @ theta[name]["lora_a"]) @ theta[name]["lora_b"])
            for (name, *_), scale, part in zip(
                modules, self.config.scales, jnp.split(x, ends[:-1], 1), strict=True
            )
        ]
        return jnp.concatenate(parts, 1)


def lora(
    modules: Sequence[tuple[str, int, int, int]], scale: float | Sequence[float] = 1.0
) -> Lora:
    """Returns the network of low-rank adapters of modules, whatever these belong to.

    Its symmetry is GL(r) between `a` and `b` of every module.

    Args:
        modules: `(name, inputs, outputs, rank)` of each.
        scale: what the products are multiplied by, `alpha / r` usually; one for all or
            one for each.

    Returns:
        The network; `theta` is `{name: {"lora_a", "lora_b"}}`, `[inputs, r]` and
        `[r, outputs]`.

    Raises:
        ValueError: as `LoraConfig`.

    Example:
        >>> net = lora([("layers.0.q_proj", 4, 6, 2), ("layers.0.v_proj", 4, 3, 1)])
        >>> [(space.name, space.size, space.group) for space in net.spec.spaces]
        [('layers.0.q_proj.lora_a', 2, 'general_linear'), \
('layers.0.v_proj.lora_a', 1, 'general_linear')]
        >>> net.apply(net.init(jax.random.key(0)), jnp.ones((5, 8))).shape
        (5, 9)
    """
    fields: Any = (modules, scale)
    return build_lora(LoraConfig(*fields))


def build_lora(config: LoraConfig) -> Lora:
    """Returns the network of a configuration; see `lora`."""
    parts = [
        low_rank(Leaf(f"{name}/kernel", (Axis(inputs), Axis(outputs))), rank, 1)
        for name, inputs, outputs, rank in config.modules
    ]
    return Lora(config, sum(parts, Part()).spec(), ())
