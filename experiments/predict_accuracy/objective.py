"""What a metanetwork is trained on: ranks of noisy accuracies, and the way back.

A measured accuracy is a binomial proportion over the images it was measured on, so
which of two networks is better is known with a probability, not for sure. The metric
is a rank correlation, so the loss is a cross-entropy on pairs with that probability as
the target. Outputs are scores without a unit; a `Scale` turns them into accuracies.
"""

from statistics import NormalDist
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.stats import norm

from qejax._typing import Array, Bool, Float, Scalar

TEMPERATURE = 2.0
"""Scores are multiplied by it before the logistic."""

FLOOR = 1e-4
"""Least standard error of a difference: equal accuracies are a coin toss."""


def pairwise_loss(
    scores: Float[Array, " B"],
    accuracy: Float[Array, " B"],
    images: int,
    there: Bool[Array, " B"] | None = None,
) -> Scalar:
    """Returns the cross-entropy of "i is better than j" over all pairs of a batch.

    The target of a pair is `Phi((a_i - a_j) / e_ij)` with `e_ij` the standard error of
    the difference of two proportions over `images` images each.

    Args:
        scores: of the metanetwork.
        accuracy: measured, in `[0, 1]`.
        images: over which each accuracy was measured.
        there: which networks count; all by default.
    """
    variance = accuracy * (1 - accuracy) / images
    error = FLOOR + jnp.sqrt(variance[:, None] + variance[None, :])
    target = norm.cdf((accuracy[:, None] - accuracy[None, :]) / error)
    logits = TEMPERATURE * (scores[:, None] - scores[None, :])
    losses = optax.sigmoid_binary_cross_entropy(logits, target)
    pairs = None if there is None else there[:, None] & there[None, :]
    return jnp.mean(losses, where=pairs)


class Scale(NamedTuple):
    """An increasing map from scores to accuracies.

    A line takes scores to normal scores, where training accuracies are spread like a
    standard normal; their quantiles take those to accuracies. The line is fitted on
    the validation split, because scores of training networks are too sure.

    Attributes:
        slope: positive, of the line.
        offset: of the line.
        normal: `[Q]`, rising normal scores.
        accuracy: `[Q]`, training accuracies there, not falling.
    """

    slope: float
    offset: float
    normal: np.ndarray
    accuracy: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Returns accuracies for scores, strictly increasing; no clipping."""
        z = self.slope * scores.astype(np.float64) + self.offset
        # The quantiles have flat pieces and ends: a little slope keeps the ranks.
        return np.interp(z, self.normal, self.accuracy) + 1e-6 * z


def fit_scale(
    scores: np.ndarray, accuracy: np.ndarray, train_accuracy: np.ndarray
) -> Scale:
    """Returns the scale of one metanetwork.

    Args:
        scores: `[V]`, of the validation split.
        accuracy: `[V]`, measured, of the validation split.
        train_accuracy: `[B]`, of the training split.
    """
    values = np.sort(train_accuracy.astype(np.float64))
    shares = (np.arange(len(values)) + 0.5) / len(values)
    normal = np.array([NormalDist().inv_cdf(share) for share in shares])
    # Tied accuracies get the mean of their normal scores.
    unique, where = np.unique(values, return_inverse=True)
    mean = np.bincount(where, normal) / np.bincount(where)
    target = np.interp(accuracy, unique, mean)
    centred = scores.astype(np.float64) - scores.mean()
    variance = float(np.mean(centred**2))
    covariance = float(np.mean(centred * (target - target.mean())))
    # Scores that rank nothing, or the wrong way round, keep their order.
    slope = max(covariance / variance, 1e-3) if variance > 0 else 1.0
    offset = float(target.mean() - slope * scores.mean())
    return Scale(slope, offset, mean, unique)
