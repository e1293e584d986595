"""What a matrix space carries, split evenly between its two sides."""

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


def balanced(spec: WeightSpec, theta: Theta) -> Theta:
    """Returns weights on the same orbit whose heads and adapters are balanced.

    Of every general linear space, writers become `U S^(1/2)` and readers
    `V S^(1/2)`, with `U S V^T` the product that the network sees. As well conditioned
    as that product allows, whatever matrices were put between its factors: what reads
    heads in float32 should read these. A singular value of zero leads to the closure
    of the orbit; the function is the same. A network with an entry that is not finite
    has a form of NaNs.

    Args:
        spec: settled (`settled_spec`).
        theta: finite weights of one network, no batch axis (batch with `jax.vmap`).

    Returns:
        `theta` itself where there is no such space, else weights of its structure.

    Raises:
        ValueError: if `theta` does not fit `spec`.
    """
    names = [s.name for s in spec.spaces if s.group == "general_linear"]
    if not names:
        return theta
    leaves = given = views(spec, theta)
    for name in names:
        leaves = split_evenly(leaves, _frames.touches(spec, name))
    return nan_unless_finite(from_views(spec, leaves, theta), given)
