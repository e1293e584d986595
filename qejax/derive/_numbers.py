"""Operations on numbers by NumPy: compiling them would take longer than running.

Only what is asked of a function once, at a few numbers, is run so; what has no row is
run by JAX, operation by operation.
"""

import string
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Params = dict[str, Any]


def _dot(params: Params, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    (lc, rc), (lb, rb) = params["dimension_numbers"]
    letters = iter(string.ascii_letters)
    left = [next(letters) for _ in x.shape]
    right = [next(letters) for _ in y.shape]
    for i, j in (*zip(lc, rc, strict=True), *zip(lb, rb, strict=True)):
        right[j] = left[i]
    out = [left[i] for i in lb]
    out += [a for n, a in enumerate(left) if n not in (*lc, *lb)]
    out += [a for n, a in enumerate(right) if n not in (*rc, *rb)]
    text = f"{''.join(left)},{''.join(right)}->{''.join(out)}"
    return np.einsum(text, x, y, optimize=True)


def _broadcast(params: Params, x: np.ndarray) -> np.ndarray:
    shape, places = params["shape"], params["broadcast_dimensions"]
    sides = [1] * len(shape)
    for size, place in zip(x.shape, places, strict=True):
        sides[place] = size
    return np.broadcast_to(x.reshape(sides), shape)


def _slice(params: Params, x: np.ndarray) -> np.ndarray:
    strides = params["strides"] or [1] * x.ndim
    rows = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*row) for row in rows)]


def _select(params: Params, which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    del params
    return np.choose(which.astype(int), cases) if cases else which


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda params, *x: function(*x)


NUMPY: dict[str, Callable[..., Any]] = {
    "add": _plain(np.add),
    "sub": _plain(np.subtract),
    "mul": _plain(np.multiply),
    "div": _plain(np.divide),
    "neg": _plain(np.negative),
    "max": _plain(np.maximum),
    "min": _plain(np.minimum),
    "exp": _plain(np.exp),
    "log": _plain(np.log),
    "tanh": _plain(np.tanh),
    "sin": _plain(np.sin),
    "cos": _plain(np.cos),
    "abs": _plain(np.abs),
    "sign": _plain(np.sign),
    "sqrt": _plain(np.sqrt),
    "rsqrt": _plain(lambda x: 1 / np.sqrt(x)),
    "square": _plain(np.square),
    "logistic": _plain(lambda x: 1 / (1 + np.exp(-x))),
    "lt": _plain(np.less),
    "le": _plain(np.less_equal),
    "gt": _plain(np.greater),
    "ge": _plain(np.greater_equal),
    "stop_gradient": _plain(lambda x: x),
    "copy": _plain(lambda x: x),
    "integer_pow": lambda params, x: x ** params["y"],
    "convert_element_type": lambda params, x: x.astype(params["new_dtype"]),
    "reshape": lambda params, x: x.reshape(params["new_sizes"]),
    "transpose": lambda params, x: x.transpose(params["permutation"]),
    "squeeze": lambda params, x: x.squeeze(tuple(params["dimensions"])),
    "concatenate": lambda params, *x: np.concatenate(x, params["dimension"]),
    "reduce_sum": lambda params, x: x.sum(tuple(params["axes"])),
    "reduce_max": lambda params, x: x.max(tuple(params["axes"])),
    "reduce_min": lambda params, x: x.min(tuple(params["axes"])),
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "select_n": _select,
    "dot_general": _dot,
}
"""What NumPy computes as JAX does, on floating arrays, by primitive."""


_PLAIN = tuple(map(np.dtype, (np.float64, np.float32, np.bool_)))
"""Of operands that NumPy computes with."""


def compute(
    primitive: Any, params: Params, operands: Sequence[Any], dtypes: Sequence[Any]
) -> list[np.ndarray]:
    """Returns the results of an operation on numbers.

    Args:
        primitive: of JAX.
        params: of it.
        operands: arrays.
        dtypes: that they should have.
    """
    name = getattr(primitive, "name", "")
    row = NUMPY.get(name)
    plain = all(d in _PLAIN for d in dtypes)
    if row is not None and plain:
        arrays = [np.asarray(x, d) for x, d in zip(operands, dtypes, strict=True)]
        with np.errstate(all="ignore"):
            return [np.asarray(row(params, *arrays))]
    arrays = [jnp.asarray(x, d) for x, d in zip(operands, dtypes, strict=True)]
    with jax.ensure_compile_time_eval():
        found = primitive.bind(*arrays, **params)
    many = found if primitive.multiple_results else [found]
    return [np.asarray(x) for x in many]
