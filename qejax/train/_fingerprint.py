"""By what examples are known again when a run goes on, on whatever devices.

Numbers that were computed on other devices differ by rounding: integers are known to
the bit, floating-point numbers by sums that rounding hardly moves.
"""

import math
import zlib
from typing import Any

import numpy as np

from qejax._trees import flatten
from qejax.train._step import Batch, num_examples

_TURN = (math.sqrt(5) - 1) / 2  # its multiples fill [0, 1) evenly


def fingerprint(data: Batch) -> dict[str, Any]:
    """Returns what examples are known by, of JSON types.

    Returns:
        `examples`, their number; `crc32` of paths, shapes, dtypes, integers and of
        where numbers are finite; `sums`, of each floating-point leaf the sums of its
        positive and of its negative numbers, weighted by their place.

    Example:
        >>> fingerprint({"x": np.array([1.0, 2.0])})["sums"]["x"]  # doctest: +ELLIPSIS
        [1.09..., 0.0]
    """
    total, sums = 0, {}
    for path, leaf in flatten(data).items():
        leaf = np.asarray(leaf)
        total = zlib.crc32(f"{path} {leaf.shape} {leaf.dtype}".encode(), total)
        exact = leaf
        if np.issubdtype(leaf.dtype, np.floating):
            exact = np.isfinite(leaf)
            sums[path] = _sums(np.where(exact, leaf, 0))
        total = zlib.crc32(np.ascontiguousarray(exact).tobytes(), total)
    return {"examples": num_examples(data), "crc32": f"{total:08x}", "sums": sums}


def _sums(leaf: np.ndarray) -> list[float]:
    x = leaf.astype(np.float64).ravel()
    places = np.arange(1, x.size + 1) * _TURN % 1
    return [float(places @ np.maximum(x, 0)), float(places @ np.maximum(-x, 0))]
