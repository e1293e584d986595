"""The data that a zoo is trained on: checked before anything is made of them."""

import hashlib
from collections.abc import Iterable

import jax
import numpy as np

from qejax import nets
from qejax.zoo._config import ZooConfig
from qejax.zoo._train_many import Data


def checked_data(config: ZooConfig, data: Data) -> Data:
    """Returns the arrays as float32 inputs, or int32 tokens, and int32 labels.

    Args:
        config: of the zoo; every network takes these inputs.
        data: what the networks are trained and tested on.

    Raises:
        ValueError: names the array and the bucket, expected and found: inputs that are
            not finite or do not fit a network, labels that are none of its outputs.
    """
    parts = []
    tokens = all(getattr(net, "vocabulary", None) for _, net in config.buckets)
    for name in ("train", "test"):
        # A value beyond float32 is found below.
        with np.errstate(over="ignore"):
            x = np.asarray(getattr(data, f"{name}_x"))
            whole = tokens and x.dtype.kind in "iu"
            x = x.astype(np.int32 if whole else np.float32)
        y = np.asarray(getattr(data, f"{name}_y"))
        if len(x) != len(y) or y.ndim != 1 or y.dtype.kind not in "iu" or not len(y):
            raise ValueError(
                f"data.{name}_y: expected one integer label for each of {len(x)} "
                f"points, at least one, got {y.dtype} of shape {y.shape}."
            )
        finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
        if not finite.all():
            bad = np.flatnonzero(~finite)
            raise ValueError(
                f"data.{name}_x: expected inputs that are finite in float32, got a "
                f"value that is not in row {bad[0]} ({len(bad)} such rows). Drop them."
            )
        for bucket, net_config in config.buckets:
            outputs = _outputs(nets.build(net_config), x, f"data.{name}_x, {bucket!r}")
            bad = np.flatnonzero((y < 0) | (y >= outputs))
            if len(bad):
                raise ValueError(
                    f"data.{name}_y: expected labels from 0 to {outputs - 1}, the "
                    f"outputs of bucket {bucket!r}, got {y[bad[0]]} in row {bad[0]} "
                    f"({len(bad)} such rows). Number the classes from 0, or give the "
                    f"network more outputs."
                )
        parts += [x, y.astype(np.int32)]
    return Data(*parts)


def _outputs(net: nets.Network, x: np.ndarray, what: str) -> int:
    """The number of outputs of a network for these inputs; nothing is computed."""
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    try:
        return jax.eval_shape(net.apply, net.spec.template(), one).shape[-1]
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{what}: the inputs of shape {x.shape} do not fit the network of the "
            f"bucket: {error} Change the network of the bucket or the inputs."
        ) from error


def digest_of_data(data: Iterable[np.ndarray]) -> str:
    """Returns the SHA-256 of the arrays, their dtypes and shapes."""
    digest = hashlib.sha256()
    for array in data:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
