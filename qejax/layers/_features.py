"""Features of a weight space: one array per leaf, channels on the last axis."""

from typing import TypeAlias

from qejax._typing import Array, Theta
from qejax.groups import GROUPS
from qejax.spaces import WeightSpec, views

Features: TypeAlias = dict[str, Array]
"""By leaf path, `[*leaf.view, C]`; the group acts by one element on every channel."""


def features(spec: WeightSpec, theta: Theta) -> Features:
    """Returns the weights of one network as features of one channel.

    Args:
        spec: the weight space.
        theta: weights of one network, no batch axis (batch with `jax.vmap`).

    Returns:
        By leaf path, `[*leaf.view, 1]`, in the order of the spec.

    Raises:
        ValueError: if `theta` does not fit `spec`, or units of the spec turn.

    Example:
        >>> import jax
        >>> from qejax import nets
        >>> net = nets.mlp((4, 3, 2), activation="relu")
        >>> feats = features(net.spec, net.init(jax.random.key(0)))
        >>> feats["layer_00/kernel"].shape
        (4, 3, 1)
    """
    check_still(spec, "features")
    return {path: leaf[..., None] for path, leaf in views(spec, theta).items()}


def check_still(spec: WeightSpec, who: str) -> None:
    """Raises if an action adds to the weights: layers read what only factors move.

    Raises:
        ValueError: names the first unit space that turns, and what to do.
    """
    turning = [s.name for s in spec.spaces if GROUPS[s.group].turns is not None]
    if turning:
        raise ValueError(
            f"{who}: expected units without phases, got {turning[0]!r} of the group "
            f"'dihedral'. Use the weights of qejax.spaces.settled(spec, theta) and "
            f"their spec, qejax.spaces.settled_spec(spec)."
        )


def check_features(spec: WeightSpec, feats: Features, channels: int, who: str) -> None:
    """Raises unless `feats` has one `[*leaf.view, channels]` per leaf of `spec`.

    Looks at structure only, so it works on traced values and costs nothing at run
    time.

    Args:
        spec: the weight space.
        feats: the features to check.
        channels: `C` that is expected.
        who: the layer that was called, for the message.

    Raises:
        ValueError: names the first leaf that is missing, unexpected or misshapen.
    """
    expected = spec.leaf_by_path
    missing = [path for path in expected if path not in feats]
    extra = [path for path in feats if path not in expected]
    if missing or extra:
        raise ValueError(
            f"{who}: features do not fit the spec: missing leaves {missing}, "
            f"unexpected leaves {extra}. Make them with qejax.layers.features."
        )
    for path, leaf in expected.items():
        shape, got = (*leaf.view, channels), tuple(feats[path].shape)
        if got != shape:
            raise ValueError(
                f"{who}: features of leaf {path!r} should have shape {shape}, the view "
                f"of the leaf and {channels} channels, got {got}. One network has no "
                f"batch axis: use jax.vmap for many."
            )
