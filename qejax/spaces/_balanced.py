"""What a matrix space carries, split evenly between its two sides."""

from qejax._exact import exact
from qejax._typing import Leaves, Theta
from qejax.spaces import _frames
from qejax.spaces._spec import WeightSpec
from qejax.spaces._views import from_views, nan_unless_finite, views


def split_evenly(leaves: Leaves, both: tuple[_frames.Touch, ...]) -> Leaves:
    """Splits what a matrix space carries evenly between its writers and readers."""
    parts = [tuple(t for t in both if t.writes == w) for w in (True, False)]
    rows = [_frames.stacked(leaves, part) for part in parts]
    for part, new in zip(parts, _frames.balanced(*rows), strict=True):
        leaves = _frames.replaced(leaves, part, new)
    return leaves


@exact
def balanced(spec: WeightSpec, theta: Theta) -> Theta:
    """Returns weights of the same function whose heads and adapters are balanced.

    Of every general linear space, writers become `U S^(1/2)` and readers
    `V S^(1/2)`, with `U S V^T` the product that the network sees. As well conditioned
    as that product allows, whatever matrices were put between its factors: what reads
    heads in float32 should read these, and running needs them for nothing. A singular
    value of zero leads to the closure of the orbit; the function is the same. A network
    with an entry that is not finite has a form of NaNs.

    Any spec will do, of any model. Everything else stays as it came, so with other
    symmetries (shifts, scales of norms, streams, rotary heads) the result differs along
    an orbit: give `settled` weights and `settled_spec` where it should not.

    With the spec of a network the result has the structure of its weights, and its
    `apply` runs it. Settled weights, balanced or not, lack the leaves that settling
    makes constant, and `apply` refuses them if there are any: what runs of a normal
    form is `restore(spec, canonical_form(spec, theta))`.

    Args:
        spec: of `theta`: that of a network, or `settled_spec` of it.
        theta: finite weights of one network, no batch axis (batch with `jax.vmap`).

    Returns:
        `theta` itself where there is no such space, else weights of its structure.

    Raises:
        ValueError: if `theta` does not fit `spec`.

    Example:
        >>> import jax
        >>> from qejax import nets
        >>> net = nets.transformer(8, 1, 2, 0, image=(4, 4, 1), patch=2)
        >>> theta, x = net.init(jax.random.key(0)), jax.numpy.ones((1, 4, 4, 1))
        >>> change = net.apply(balanced(net.spec, theta), x) - net.apply(theta, x)
        >>> bool(abs(change).max() < 1e-5)
        True
    """
    names = [s.name for s in spec.spaces if s.group == "general_linear"]
    if not names:
        return theta
    leaves = given = views(spec, theta)
    for name in names:
        leaves = split_evenly(leaves, _frames.touches(spec, name))
    return nan_unless_finite(from_views(spec, leaves, theta), given)
