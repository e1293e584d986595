"""Weights that write units and read none, at learned frequencies.

A unit that reads the coordinates `x` of a signal, `sin(w x + b)`, is a wave; what tells
one from another is where `w` lies, and that is no linear function of it. With learned
`Om` the leaf `w [n, i]` gets two more beside it,

`sin(w Om)`, which flips with the unit where `w` does, and `cos(w Om)`, which does not,

each `[waves, n]`: leaves as all others, of a spec that has them. What reads the weights
of a network reads those too, and needs no rule for them.

Source: frequencies as in Zhou et al. 2023, arXiv:2302.14040, Appendix (the features of
coordinate networks), there of entries one by one; odd and even parts are our own.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from qejax._typing import Array, Leaves
from qejax.layers._features import Features, check_still
from qejax.layers._linear import matrix, times
from qejax.layers._message_passing import key_of
from qejax.spaces import Axis, Leaf, WeightSpec

_WHO = "InputWaves and WaveFeatures"
"""In messages of both: the one is made by the other."""


class InputWaves(nnx.Module):
    """Adds the sines and cosines of matrices that write units and read none, as leaves.

    `waves(act(g, leaves)) == act(g, waves(leaves))` by the action of `waves.spec`, for
    every `g`. Of networks of coordinates, images and numbers, such matrices are those
    that read the inputs. Of transformers they are embeddings and tables of positions,
    and with `spec.permutations_only()` also what reads a stream without an order of its
    own: kernels and biases of heads. Units with scales have no frequencies, and where
    no such matrix is left nothing is added.

    One network, no batch axis (batch with `jax.vmap`); dtype of the leaves.

    Args:
        spec: the weight space.
        waves: frequencies per leaf; 0 for none.
        rate: standard deviation of the frequencies at first, in units of one over the
            root mean square of the weights: the angle is `w Om`, and leaves come in
            about unit size.
        param_dtype: of the parameters.
        rngs: the stream `params` is used.

    Raises:
        ValueError: if `waves` is negative, or units of the spec turn.

    Example:
        >>> from qejax import nets, spaces
        >>> net = nets.coordinate((2, 8, 8, 1), "sine(30)")
        >>> theta = spaces.settled(net.spec, net.init(jax.random.key(0)))
        >>> spec = spaces.settled_spec(net.spec)
        >>> waves = InputWaves(spec, 16, rngs=nnx.Rngs(0))
        >>> leaves = waves(spaces.views(spec, theta))
        >>> leaves["layer_00/kernel@sin"].shape
        (16, 8)
    """

    def __init__(
        self,
        spec: WeightSpec,
        waves: int,
        *,
        rate: float = 3.0,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if waves < 0:
            raise ValueError(
                f"{_WHO}: expected waves of at least 0, got {waves}. Use 0 for none."
            )
        check_still(spec, _WHO)
        self.read = _readers(spec) if waves else ()
        self.omega = nnx.Dict()
        for leaf in self.read:
            draw = jax.random.normal(rngs.params(), (leaf.folded, waves), param_dtype)
            self.omega[key_of(leaf.path)] = nnx.Param(rate * draw)
        added = [one for leaf in self.read for one in _added(leaf, waves)]
        self.spec = dataclasses.replace(spec, leaves=(*spec.leaves, *added))
        # Columns of `of_units`, of the spaces that have any.
        self.width: dict[str, int] = {}
        for leaf in added:
            name = str(leaf.axes[1].space)
            self.width[name] = self.width.get(name, 0) + waves

    def __call__(self, leaves: Leaves) -> Leaves:
        """Returns the leaves of `spec`, `[*leaf.view]`, those that came among them.

        Args:
            leaves: by path, `[*leaf.view]`, each of about unit size.
        """
        found = dict(leaves)
        for leaf in self.read:
            (position,) = leaf.moved()
            x = jnp.moveaxis(leaves[leaf.path], position, 0)
            x = x.reshape(x.shape[0], -1)
            angle = x @ self.omega[key_of(leaf.path)][...].astype(x.dtype)
            for one, wave in zip(_added(leaf, 1), (jnp.sin, jnp.cos), strict=True):
                found[one.path] = wave(angle).T
        return found

    def of_units(self, leaves: Leaves) -> dict[str, Array]:
        """Returns what is added, unit by unit, `[n_s, width[s]]`, where there is any.

        Args:
            leaves: as in a call; those of `read` are enough.
        """
        found, parts = self(leaves), {name: [] for name in self.width}
        for leaf in self.read:
            for one in _added(leaf, 1):
                parts[str(one.axes[1].space)].append(found[one.path].T)
        return {name: jnp.concatenate(xs, -1) for name, xs in parts.items()}


class WaveFeatures(nnx.Module):
    """Features of several channels from weights: waves fill them, others share them.

    A leaf of weights times a learned vector of channels; of the waves, a learned linear
    map from frequencies to channels, so that `spec` has no axis for them. Without waves
    the weights themselves, one channel.

    One network, no batch axis (batch with `jax.vmap`); dtype of the leaves.

    Args:
        spec: the weight space.
        waves: frequencies per leaf; 0 for none.
        channels: of the features, `C`.
        rate: as of `InputWaves`.
        param_dtype: of the parameters.
        rngs: the stream `params` is used.

    Raises:
        ValueError: if `waves` is negative, or units of the spec turn.

    Example:
        >>> from qejax import nets, spaces
        >>> net = nets.coordinate((2, 8, 8, 1), "tanh")
        >>> waves = WaveFeatures(net.spec, 16, 4, rngs=nnx.Rngs(0))
        >>> feats = waves(spaces.views(net.spec, net.init(jax.random.key(0))))
        >>> feats["layer_00/kernel@sin"].shape
        (8, 4)
    """

    def __init__(
        self,
        spec: WeightSpec,
        waves: int,
        channels: int,
        *,
        rate: float = 3.0,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.waves = InputWaves(
            spec, waves, rate=rate, param_dtype=param_dtype, rngs=rngs
        )
        whole = self.waves.spec
        added = whole.leaves[len(spec.leaves) :]
        self.added = tuple(leaf.path for leaf in added)
        flat = [Leaf(leaf.path, (leaf.axes[1],)) for leaf in added]
        self.spec = dataclasses.replace(spec, leaves=(*spec.leaves, *flat))
        self.channels = channels if added else 1
        self.mix = nnx.Dict()
        for leaf in whole.leaves if added else ():
            rows = waves if leaf.path in self.added else 1
            self.mix[key_of(leaf.path)] = matrix(
                rows, channels, param_dtype=param_dtype, rngs=rngs
            )

    def __call__(self, leaves: Leaves) -> Features:
        """Returns features of `spec`, `[*leaf.view, C]`.

        Args:
            leaves: by path, `[*leaf.view]`, each of about unit size.
        """
        found = {}
        for path, x in self.waves(leaves).items():
            x = x.T if path in self.added else x[..., None]
            found[path] = times(x, self.mix[key_of(path)]) if self.added else x
        return found


def _added(leaf: Leaf, waves: int) -> tuple[Leaf, Leaf]:
    """The waves of a leaf: sines flip as its entries do, cosines do not."""
    axis = leaf.axes[leaf.moved()[0]]
    odd = Axis(axis.size, axis.space, axis.power)
    even = Axis(axis.size, axis.space, 0)
    return (
        Leaf(f"{leaf.path}@sin", (Axis(waves), odd)),
        Leaf(f"{leaf.path}@cos", (Axis(waves), even)),
    )


@functools.lru_cache(maxsize=256)
def _readers(spec: WeightSpec) -> tuple[Leaf, ...]:
    """Matrices that write units without scales, and read none."""
    found = []
    for leaf in spec.leaves:
        moved = leaf.moved()
        if len(moved) == 1 and len(leaf.axes) > 1:
            axis = leaf.axes[moved[0]]
            group = spec.space_by_name[str(axis.space)].group
            if axis.power > 0 and group in ("sign", "permutation"):
                found.append(leaf)
    return tuple(found)
