"""Products of matrices that keep all digits, on every device."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")


def exact(function: Callable[P, T]) -> Callable[P, T]:
    """Returns a function in which products of matrices keep all digits of factors.

    By default a GPU rounds factors of float32 to TensorFloat-32, and a TPU to bfloat16:
    too few for what has to be the same for all weights of one function.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return run
