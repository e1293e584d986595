"""The editor: weights of one network in, weights of another one out.

Editing has two halves. `prepare` is exact and has no trained part. `edit` is trained.
"""

import functools
from typing import Any, Literal, get_args

import jax.numpy as jnp
from flax import nnx

from qejax import layers, spaces
from qejax._exact import exact
from qejax._typing import Array, Leaves, Theta
from qejax.layers import key_of
from qejax.models._changes import (
    EditorConfig,
    GraphChanges,
    LayerChanges,
    SignedChanges,
)
from qejax.models._leaf_scale import LeafScale
from qejax.models._trunks import check_heads
from qejax.spaces import Canonical, WeightSpec

Editing = Literal["strict", "gauge", "relative", "signed", "canonical"]
"""How an editor may move between what comes in and what goes out."""


class Editor(nnx.Module):
    """Changes a network, the same function whatever weights stand for it.

    `F(theta) = theta + eta * out(theta)`, with one learned `eta` per leaf, in units of
    the root mean square of the leaf. For every `g` of the group of `spec`:

    - "strict", "relative" and "signed": `F(g theta) = g F(theta)`, half periods of sine
      units included. "relative" moves channels by group-valued maps; where units have
      no scales and no matrices act it is "strict". "signed" passes messages between
      units that flip.
    - "gauge": `F(theta) = alpha(theta) (theta + eta * out(theta))`, with the paper's
      shared `alpha` and `out` strict: `F(g theta) = g' F(theta)` with
      `g' = alpha(g theta) g alpha(theta)^-1`. A sum needs both sides to move alike, so
      `alpha` stands outside of it: the function of the edit does not depend on it.
      Where units have no scales and no matrices act it is "strict".
    - "canonical": `F(theta)` is the edited normal form, and `F(g theta) = p F(theta)`
      with `p` a permutation. Normal forms jump where a sign or a phase is decided.

    So functionally equivalent weights give functionally equivalent ones, for every
    kind. With every `eta` zero, `F(theta)` is `theta` ("gauge": `alpha(theta) theta`,
    "canonical": the normal form), the function unchanged.

    One network, no batch axis (batch with `jax.vmap`). `editor(theta)` is
    `edit(prepare(theta))`, in the dtype of `theta`, float32 at least.

    Args:
        spec: the weight space.
        channels: `C` of the features in between.
        quasi: the kind; see above.
        config: everything else.
        rngs: `params` is used.

    Raises:
        ValueError: if `quasi` is unknown; if it is not "canonical" and shifts, norms or
            streams have to be settled first; if it is "signed" and groups other than
            permutations and signs act, or heads do not divide the channels; if it is
            another kind and has heads.

    Source: Zhou et al. 2023, arXiv:2302.14040 (edits as small changes of weights); Tran
    et al. 2026, arXiv:2604.23720 (quasi-equivariance).

    Example:
        >>> from qejax import nets
        >>> import jax
        >>> net = nets.coordinate((2, 8, 8, 1))
        >>> editor = Editor(net.spec, 4, rngs=nnx.Rngs(0))
        >>> edited = editor(net.init(jax.random.key(0)))
        >>> net.apply(edited, nets.grid(4, 4)).shape
        (16, 1)
    """

    def __init__(
        self,
        spec: WeightSpec,
        channels: int = 16,
        quasi: Editing = "strict",
        *,
        config: EditorConfig | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        if quasi not in get_args(Editing):
            raise ValueError(
                f"Editor(quasi=...): expected one of {list(get_args(Editing))}, got "
                f"{quasi!r}."
            )
        config = config or EditorConfig()
        check_heads(config.heads, quasi, "Editor")
        free = spaces.settled_spec(spec)
        if quasi != "canonical" and free != spaces.phase_free_spec(spec):
            raise ValueError(
                f"Editor(quasi={quasi!r}): expected weights of which nothing but the "
                f"phases of sine units is settled, got shifts, norms or streams. Use "
                f"quasi='canonical', which edits the normal form."
            )
        self.spec, self.free, self.quasi = spec, free, quasi
        self.channels, self.config = channels, config
        self.precision = config.precision
        dtype, sizes = config.param_dtype, {leaf.path: () for leaf in free.leaves}
        self.eta = nnx.Dict(
            {key_of(p): nnx.Param(jnp.full((), config.eta, dtype)) for p in sizes}
        )
        self.scale = LeafScale(free)
        self.alpha: layers.GaugeAlpha | None = nnx.data(None)
        if quasi == "canonical":
            known = len(spaces.log_norm_paths(spec))
            self.out: nnx.Module = GraphChanges(
                free, channels, known, config, rngs=rngs
            )
        elif quasi == "signed":
            self.out = SignedChanges(free, channels, config, rngs=rngs)
        else:
            relative = quasi == "relative"
            self.out = LayerChanges(
                free, channels, config, relative=relative, rngs=rngs
            )
        if quasi == "gauge":
            self.alpha = layers.GaugeAlpha(
                free, 1, eps=config.eps, param_dtype=dtype, rngs=rngs
            )

    @exact
    def prepare(self, theta: Theta) -> dict[str, Any]:
        """Returns what `edit` takes of one network: exact, nothing trained.

        Args:
            theta: weights of one network.

        Returns:
            The `point` that is edited, the `features` that are read, by leaf, and the
            numbers `known` of the network.

        Raises:
            ValueError: if `theta` does not fit the spec.
        """
        theta = layers.widened(theta, self.precision)
        if self.quasi != "canonical":
            found = spaces.settled(self.spec, theta)
            return {
                "point": theta,
                "features": spaces.views(self.free, found),
                "known": {},
            }
        form = spaces.canonical_form(self.spec, theta)
        found = spaces.reduced(self.spec, form.theta)
        return {
            "point": form.theta,
            "features": spaces.views(self.free, found),
            "known": form.log_norm,
        }

    def fit_scale(self, features: Leaves) -> None:
        """Stores the root mean square of every leaf.

        Args:
            features: of `prepare`, stacked, leaves `[B, *leaf.view]`.
        """
        self.scale.fit(features)

    def edit(self, prepared: dict[str, Any]) -> Theta:
        """Returns the weights of the edited network.

        Args:
            prepared: of one network.
        """
        scaled = self.scale(prepared["features"])
        compute = functools.partial(layers.in_precision, name=self.precision)
        out = compute(self.out)(scaled, prepared["known"])
        changes = {
            leaf.path: self._step(leaf.path, out[leaf.path]).reshape(leaf.view)
            for leaf in self.free.leaves
        }
        leaves = spaces.views(self.spec, prepared["point"])
        dtype = jnp.result_type(*leaves.values())
        changes = {path: x.astype(dtype) for path, x in changes.items()}
        # What settling makes constant stays as it is.
        for leaf in spaces.phase_free_spec(self.spec).leaves:
            changes.setdefault(leaf.path, jnp.zeros(leaf.view, dtype))
        step = spaces.with_phases(self.spec, leaves, changes)
        moved = {path: x + step[path] for path, x in leaves.items()}
        if self.alpha is not None:
            feats = {path: x[..., None] for path, x in scaled.items()}
            moved = {p: x[..., None] for p, x in moved.items()}
            moved = layers.act_scales(self.spec, compute(self.alpha)(feats), moved)
            moved = {p: x[..., 0] for p, x in moved.items()}
        edited = spaces.from_views(self.spec, moved, prepared["point"])
        if self.quasi != "canonical":
            return edited
        return spaces.restore(self.spec, Canonical(edited, prepared["known"]))

    def __call__(self, theta: Theta) -> Theta:
        """Returns the weights of the edited network."""
        return self.edit(self.prepare(theta))

    def _step(self, path: str, out: Array) -> Array:
        eta = self.eta[key_of(path)][...].astype(out.dtype)
        return eta * self.scale.of(path, out) * out


def prepare_edits(editor: Editor, thetas: Theta, batch_size: int = 64) -> Any:
    """Returns `editor.prepare` of every network, stacked, `[B, ...]`."""
    return spaces.map_networks(editor.prepare, thetas, batch_size=batch_size)
