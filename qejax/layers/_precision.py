"""How many digits a trained half computes with: one name, one row of `PRECISIONS`.

What is exact (normal forms, statistics) runs in float32 at least, whatever the row.
What is trained has parameters and results in `params`; where `operands` is another
dtype, the factors of every product of matrices and of every convolution are rounded to
it, as are the gradients of factors, and the product is taken and summed in `params`.
All else (sums over units, norms, nonlinearities) stays in `params`, and so do
parameters and the state of an optimiser.

It is a change of the traced program, not of the layers: any pure function will do. It
goes into loops, branches and rematerialised parts, which stay what they are. What has a
derivative of its own is left alone: its derivative would not know of the rounding.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, get_args
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.typing import DTypeLike

from qejax._exact import exact
from qejax._typing import Array

PrecisionName = Literal["float32", "bfloat16", "float64"]
"""A row of `PRECISIONS`; "float64" is for checks, and slow."""

T = TypeVar("T")


class Precision(NamedTuple):
    """One way to compute.

    Attributes:
        params: dtype of parameters and of all that is no product; what products sum in.
        operands: dtype that the factors of products of matrices and of convolutions are
            rounded to.
        dot: how many digits of its factors a device may drop, see
            `jax.default_matmul_precision`: by default a GPU keeps 10 bits after the
            point (TensorFloat-32) and a TPU the 7 of bfloat16; both sum in float32.
            That is all of factors that were rounded to 7, but not of others. "highest"
            keeps the 23 of float32 and has its price: about six products of bfloat16
            in place of one on a TPU, and no TensorFloat-32 on a GPU. Whoever wants
            the fast products takes the row "bfloat16", which says what they read.
    """

    params: DTypeLike
    operands: DTypeLike
    dot: Literal["highest", "default"]

    @property
    def rounds(self) -> bool:
        """Whether products read fewer digits than parameters have."""
        return self.operands != self.params


PRECISIONS: dict[str, Precision] = {
    "float32": Precision(jnp.float32, jnp.float32, "highest"),
    "bfloat16": Precision(jnp.float32, jnp.bfloat16, "default"),
    "float64": Precision(jnp.float64, jnp.float64, "highest"),
}
"""By `PrecisionName`."""

INSIDE: dict[core.Primitive, tuple[str, ...]] = {
    core.primitives.scan_p: ("jaxpr",),
    core.primitives.while_p: ("cond_jaxpr", "body_jaxpr"),
    core.primitives.cond_p: ("branches",),
}
"""Loops and branches: what the programs in them that are rounded too are called."""

_ROUNDED: WeakKeyDictionary[Any, dict[Precision, Any]] = WeakKeyDictionary()
"""By programs that are not: so that a loop without a `jit` around is compiled once."""

PRODUCTS = (core.primitives.dot_general_p, core.primitives.conv_general_dilated_p)


def precision_of(name: str) -> Precision:
    """Returns a row of `PRECISIONS`.

    Raises:
        ValueError: if the name is unknown, or JAX is not set to keep float64.
    """
    if name not in PRECISIONS:
        raise ValueError(
            f"precision={name!r}: expected one of {list(get_args(PrecisionName))}."
        )
    row = PRECISIONS[name]
    if jax.dtypes.canonicalize_dtype(row.params) != row.params:
        raise ValueError(
            f"precision={name!r}: JAX would keep parameters in float32. Call "
            f"jax.config.update('jax_enable_x64', True) first, or use 'float32'."
        )
    return row


def widened(tree: T, name: str) -> T:
    """Returns a tree with floating leaves in the row's `params` at least: no loss.

    Args:
        tree: such as weights that are kept in bfloat16.
        name: of the precision.
    """
    least = precision_of(name).params
    bits = jnp.finfo(least).bits
    return _cast(
        tree, lambda x: x if jnp.finfo(x.dtype).bits >= bits else x.astype(least)
    )


def in_precision(fn: Callable[..., T], name: str) -> Callable[..., T]:
    """Returns `fn` computed in a precision.

    Products of matrices and convolutions read rounded factors, also inside of `jit`,
    and of `scan`, `while`, `cond` and `jax.checkpoint`, which stay what they are.
    Whatever else holds a function (`custom_jvp`, `custom_vjp`, `custom_linear_solve`,
    `shard_map`) is left as it is and keeps all digits. Gradients of factors are
    rounded as they are.

    Args:
        fn: a pure function of trees of arrays; it may close over parameters, such as a
            module does, and they may be traced.
        name: of the precision.

    Returns:
        The function. Floating arguments become those of the row's `params`; where
        nothing is rounded, arguments with more digits keep them.

    Raises:
        ValueError: as `precision_of`.

    Source:
        Micikevicius et al. 2018, arXiv:1710.03740 (masters and sums in float32).

    Example:
        >>> half = in_precision(lambda x, w: jax.nn.silu(x @ w), "bfloat16")
        >>> w = jnp.full((3, 1), 1 / 3, jnp.float32)
        >>> master = jax.grad(lambda w: half(jnp.ones((2, 3)), w).sum())(w)
        >>> master.shape, master.dtype
        ((3, 1), dtype('float32'))
    """
    row = precision_of(name)

    def run(*args: Any) -> Any:
        if not row.rounds:
            with jax.default_matmul_precision(row.dot):
                return fn(*widened(args, name))
        given = _cast(args, lambda x: x.astype(row.params))
        # What is not rounded keeps all digits.
        closed, shapes = jax.make_jaxpr(exact(fn), return_shape=True)(*given)
        out = _evaluate(row, closed.jaxpr, closed.consts, jax.tree.leaves(given))
        return jax.tree.unflatten(jax.tree.structure(shapes), out)

    return run


def _cast(tree: Any, cast: Callable[[Array], Array]) -> Any:
    def of_leaf(x: Any) -> Any:
        x = jnp.asarray(x)
        return cast(x) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(of_leaf, tree)


def _evaluate(
    row: Precision, jaxpr: core.Jaxpr, consts: Any, args: list[Any]
) -> list[Any]:
    """The outputs of a traced function, its products rounded."""
    known: dict[core.Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= dict(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        given = [read(atom) for atom in eqn.invars]
        if eqn.primitive is core.primitives.jit_p:
            inner = eqn.params["jaxpr"]
            found = _evaluate(row, inner.jaxpr, inner.consts, given)
        elif _is_product(row, eqn):
            found = [_product(row, eqn, *given)]
        else:
            rounded, constants = _inside_rounded(row, eqn)
            known |= constants
            free = [v for v in rounded.invars if not isinstance(v, core.Literal)]
            alone = jaxpr.replace(
                constvars=[], invars=free, outvars=eqn.outvars, eqns=[rounded]
            )
            run = core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))
            found = run(*(known[v] for v in free))
        known |= dict(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _inside_rounded(
    row: Precision, eqn: core.JaxprEqn
) -> tuple[core.JaxprEqn, dict[core.Var, Any]]:
    """An equation with the programs in it rounded, and constants that it now reads."""
    params = dict(eqn.params)
    for name in INSIDE.get(eqn.primitive, ()):
        params[name] = jax.tree.map(lambda x: _rounded(row, x), params[name])
    if eqn.primitive is not core.primitives.remat_p:
        return eqn.replace(params=params), {}
    # Its program is an open one: what functions inside of it close over goes in first.
    inner = _rounded(row, params["jaxpr"])
    new = inner.jaxpr.constvars
    params["jaxpr"] = inner.jaxpr.replace(
        constvars=[], invars=[*new, *inner.jaxpr.invars]
    )
    if isinstance(params["prevent_cse"], tuple):
        params["prevent_cse"] = (False,) * len(new) + params["prevent_cse"]
    constants = dict(zip(new, inner.consts, strict=True))
    return eqn.replace(params=params, invars=[*new, *eqn.invars]), constants


def _rounded(row: Precision, inner: core.Jaxpr | core.ClosedJaxpr) -> core.ClosedJaxpr:
    """A program with its products rounded, the same object as long as `inner` lives."""
    by_row = _ROUNDED.setdefault(inner, {})
    if row not in by_row:
        closed = isinstance(inner, core.ClosedJaxpr)
        jaxpr, consts = (inner.jaxpr, inner.consts) if closed else (inner, ())
        run = lambda *args: _evaluate(row, jaxpr, consts, list(args))  # noqa: E731
        by_row[row] = jax.make_jaxpr(run)(*jaxpr.in_avals)
    return by_row[row]


def _is_product(row: Precision, eqn: core.JaxprEqn) -> bool:
    """Whether all of a product has the digits that the row takes away."""
    ends = (*eqn.invars, *eqn.outvars)
    product = eqn.primitive in PRODUCTS
    return product and all(getattr(x.aval, "dtype", None) == row.params for x in ends)


def _product(row: Precision, eqn: core.JaxprEqn, left: Array, right: Array) -> Array:
    """A product of rounded factors, in `params`: what every device can compute.

    With factors in `operands`, or an algorithm that is asked for by name, some kernels
    of CPUs have no such product.
    """
    info = jnp.finfo(row.operands)
    algorithm = {
        "precision": (jax.lax.Precision(row.dot),) * 2,
        "preferred_element_type": jnp.dtype(row.params),
    }
    return eqn.primitive.bind(
        jax.lax.reduce_precision(left, info.nexp, info.nmant),
        jax.lax.reduce_precision(right, info.nexp, info.nmant),
        **(eqn.params | algorithm),
    )
