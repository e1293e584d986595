"""The training that the networks go on with: optimisers, data orders, loss curves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from qejax._typing import Array, PRNGKeyArray, Scalar, Theta
from qejax.nets import Network

OPTIMISERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    # The root of a square that is zero has no slope, and maps are trained through it.
    "adam": lambda rate: optax.adam(rate, eps_root=1e-12),
}
"""By name: from a learning rate, which may be traced."""

WORST = 1e3
"""What a loss that is no number, or above it, counts as; in nats."""


@dataclass(frozen=True)
class Digits:
    """What networks are trained on.

    Attributes:
        network: the architecture.
        images: `[N, 64]`, of which training draws its batches.
        digits: `[N]`, what they show.
        told: of the first so many of them a loss is measured.
        batch: images in a step.
    """

    network: Network
    images: Array
    digits: Array
    told: int
    batch: int

    def loss(self, theta: Theta, task: Array, chosen: Array) -> Scalar:
        """Returns the mean cross-entropy on some images.

        Args:
            theta: weights of one network.
            task: `[10]`, the class of every digit.
            chosen: numbers of the images.
        """
        logits = self.network.apply(theta, self.images[chosen])
        labels = task[self.digits[chosen]]
        found = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(found)

    def measured(self, theta: Theta, task: Array) -> Scalar:
        """Returns the loss on the images that are always the same, at most `WORST`."""
        found = self.loss(theta, task, jnp.arange(self.told))
        return jnp.where(found < WORST, found, WORST)

    def order(self, key: PRNGKeyArray, steps: int) -> Array:
        """Returns the batches of so many steps, `[steps, batch]`: epochs, shuffled."""
        count = len(self.images)
        each = count // self.batch
        keys = jax.random.split(key, -(-steps // each))
        epochs = jax.vmap(lambda k: jax.random.permutation(k, count))(keys)
        batches = epochs[:, : each * self.batch].reshape(-1, self.batch)
        return batches[:steps]

    def trained(
        self, theta: Theta, task: Array, order: Array, optimiser: str, rate: Any
    ) -> Theta:
        """Returns the weights behind the steps of an order, `[k, batch]`."""
        rule = OPTIMISERS[optimiser](rate)

        def step(state: Any, chosen: Array) -> tuple[Any, None]:
            return self._step(rule, state, task, chosen), None

        return lax.scan(step, (theta, rule.init(theta)), order)[0][0]

    def curve(
        self,
        theta: Theta,
        task: Array,
        order: Array,
        optimiser: str,
        rate: Any,
        every: int,
    ) -> Array:
        """Returns the measured loss before training and every so many steps.

        Args:
            theta: weights of one network.
            task: `[10]`.
            order: `[steps, batch]`, with `steps` a multiple of `every`.
            optimiser: a name of `OPTIMISERS`.
            rate: its learning rate.
            every: see above.
        """
        rule = OPTIMISERS[optimiser](rate)

        def step(state: Any, chosen: Array) -> tuple[Any, None]:
            return self._step(rule, state, task, chosen), None

        def some(state: Any, chosen: Array) -> tuple[Any, Scalar]:
            state = lax.scan(step, state, chosen)[0]
            return state, self.measured(state[0], task)

        parts = order.reshape(-1, every, order.shape[-1])
        found = lax.scan(some, (theta, rule.init(theta)), parts)[1]
        return jnp.concatenate([self.measured(theta, task)[None], found])

    def _step(
        self, rule: optax.GradientTransformation, state: Any, task: Array, chosen: Array
    ) -> Any:
        theta, own = state
        gradient = jax.grad(self.loss)(theta, task, chosen)
        updates, own = rule.update(gradient, own)
        return optax.apply_updates(theta, updates), own
