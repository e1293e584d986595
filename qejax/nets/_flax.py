"""The weight space of a Flax model, from its parameters alone.

Flax is not imported: a model is the tree of its parameters, of Linen or NNX, and what
is known of it is what the names and shapes of the library's own attention say:
`query/kernel [E, H, d]`, `key` and `value [E', G, d]`, `out/kernel [H, d, O]`, biases
beside them. The symmetry of attention does not depend on anything around it; all other
leaves stay where they are, so the spec is true of any model, if not the largest.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from qejax import _trees, spaces
from qejax.nets._activations import activation as find_activation
from qejax.spaces import Axis, Leaf, Part, Route, UnitSpace, WeightSpec, Wire

_HEADS = ("query", "key", "value")
_NORMS = ("query_ln", "key_ln")
_CACHE = ("cached_key", "cached_value", "cache_index")
_QK = ("general_linear", "rotary", None)
_ADVICE = (
    "Say with attention=[...] which subtrees are attention; nothing is claimed of the "
    "others."
)


class _Entry(NamedTuple):
    """A leaf of the tree: its path there, and its shape."""

    path: str
    shape: tuple[int, ...]


_Tree = dict[str, _Entry]
"""Leaves by path, without the last key of those that Flax keeps in a box."""


def flax_spec(
    params: Any,
    *,
    attention: str | Iterable[str] | None = None,
    qk: str | Callable[[str], str | None] | None = "general_linear",
    hidden: Mapping[str, tuple[str, str]] | None = None,
) -> WeightSpec:
    """Returns a spec of the parameters of any Flax model, Linen or NNX.

    It covers every leaf. Attention (softmax of scaled products of queries and keys,
    self or cross, with masks and grouped queries, no dropout while it runs) gets its
    whole symmetry: permutations of heads, GL(d) per head of queries and keys and of
    values and outputs, shifts of the key bias, and of the value bias where the output
    has one. All other leaves are fixed.

    The tree names modules and does not say what they compute: what is claimed is what
    Flax computes under these names. A wrong claim makes a wrong spec: a
    `models.Predictor` takes it and gives one function different answers, and only the
    model can tell. Check it once with `qejax.testing.assert_function_kept` (attention
    of NNX without dropout takes its softmax in float32, whatever the dtype of the
    weights: in float64, pass it `tolerance=1e-4`).

    Args:
        params: `variables["params"]` of Linen, `nnx.state(model, nnx.Param)` of NNX or
            its pure dict; arrays or `jax.ShapeDtypeStruct`. One network, no batch axis
            and no axis over layers; of stacked parameters,
            `jax.tree.map(lambda a: a[0], params)`.
        attention: paths of the subtrees that are attention, `/`-joined ("" for the
            tree itself), or one path; `None` for all that have kernels named so and
            nothing else.
        qk: what acts on queries and keys of the attention at a path: "general_linear";
            "rotary" where units `i` and `i + d / 2` of both are turned; `None` if
            anything else stands between kernels and products. The tree does not tell.
            Always `None` with `query_ln` and `key_ln` (Flax's `normalize_qk`).
        hidden: further units, in network order: `{layer: (activation, reader)}`. The
            layer (dense or convolution) feeds the activation, and nothing but the
            reader (likewise) sees the result: no norm, gate, skip or flatten between.
            Linen numbers layers as they are made, not as they run: in
            `Dense(n)(relu(Dense(n)(x)))` the outer one is `Dense_0`. Two layers swapped
            are refused where sizes differ, and nowhere else.

    Returns:
        The spec; `act(spec, g, params)` has the structure of `params`. Spaces are named
        by path, as `"blocks.0.attn.heads"`.

    Raises:
        ValueError: if a leaf is no parameter, kernels of attention are missing or do
            not fit each other, something unknown stands beside them, or a layer of
            `hidden` does not have the units; names the path.

    Example:
        >>> shapes = {"query": (6, 2, 3), "key": (6, 2, 3), "value": (6, 2, 3)}
        >>> shapes |= {"out": (2, 3, 6)}
        >>> attn = {k: {"kernel": jnp.ones(shape)} for k, shape in shapes.items()}
        >>> params = {"attn": attn, "head": {"kernel": jnp.ones((6, 4))}}
        >>> [(s.name, s.group, s.per) for s in flax_spec(params).spaces]
        [('attn.heads', 'permutation', None), ('attn.vo', 'general_linear', \
'attn.heads'), ('attn.qk', 'general_linear', 'attn.heads')]
    """
    tree = _entries(params)
    total = Part()
    for path in _sites(tree, attention):
        group = qk(path) if callable(qk) else qk
        if group not in _QK:
            raise ValueError(
                f"flax_spec(qk=...): expected one of {list(_QK)} for the attention "
                f"{path!r}, got {group!r}."
            )
        total += _attention(tree, path, group, known=attention is not None)
    units = _hidden(tree, {leaf.path: leaf for leaf in total.leaves}, hidden or {})
    leaves = {leaf.path: leaf for leaf in (*total.leaves, *units.leaves)}
    # Fixed leaves first: the others are in the order in which they are applied.
    others = [entry for entry in tree.values() if entry.path not in leaves]
    fixed = Part(leaves=tuple(Leaf(path, _fixed(shape)) for path, shape in others))
    last = {leaf.path for leaf in units.leaves}
    kept = tuple(leaf for leaf in total.leaves if leaf.path not in last)
    return (fixed + replace(total, leaves=kept) + units).spec()


def _fixed(shape: tuple[int, ...]) -> tuple[Axis, ...]:
    return tuple(Axis(size) for size in shape)


def _join(path: str, name: str) -> str:
    return f"{path}/{name}".strip("/")


def _entries(params: Any) -> _Tree:
    """The leaves of a tree of parameters."""
    tree: _Tree = {}
    boxed = {
        _trees.path_of(keys)
        for keys, _ in jax.tree_util.tree_leaves_with_path(params)
        if isinstance(keys[-1] if keys else None, jax.tree_util.GetAttrKey)
    }
    for path, leaf in _trees.flatten(params).items():
        name = path.rsplit("/", 1)[0] if path in boxed else path
        kind = getattr(leaf, "dtype", None)
        cache = name.rsplit("/", 1)[-1] in _CACHE
        if cache or kind is None or not jnp.issubdtype(kind, jnp.floating):
            raise ValueError(
                f"flax_spec: leaf {path!r} should be a floating array, a parameter, "
                f"got {'a cache' if cache else kind or type(leaf).__name__}. Pass the "
                f"parameters alone: variables['params'] of Linen, "
                f"nnx.state(model, nnx.Param) of NNX."
            )
        tree[name] = _Entry(path, tuple(leaf.shape))
    if not tree:
        raise ValueError(
            "flax_spec: expected parameters, at least one leaf, got none. Initialise "
            "the model first."
        )
    return tree


def _sites(tree: _Tree, given: str | Iterable[str] | None) -> list[str]:
    """Paths of the subtrees that are attention, in the order of the tree."""
    if isinstance(given, str):  # Its letters are no paths.
        return [given]
    if given is not None:
        return list(dict.fromkeys(given))
    found: dict[str, int] = {}
    for name in tree:
        *parents, layer, leaf = ["", *name.split("/")]
        if leaf == "kernel" and layer in _HEADS:
            path = "/".join(parents[1:])
            found[path] = found.get(path, 0) + 1
    # One of the names is anybody's ("key"); two are meant to be attention.
    return [path for path, count in found.items() if count > 1]


def _attention(tree: _Tree, path: str, qk: str | None, known: bool) -> Part:
    """What attention adds, with the leaves that the tree has.

    Args:
        tree: all leaves.
        path: of the attention.
        qk: the group of queries and keys.
        known: whether the user says that it is attention, whatever stands beside it.
    """
    prefix = f"{path}/".lstrip("/")
    inside = {name for name in tree if name.startswith(prefix)}
    layers = (*_HEADS, "out")
    names = {layer: _join(path, f"{layer}/kernel") for layer in layers}
    missing = [name for name in names.values() if name not in inside]
    if missing:
        raise ValueError(
            f"flax_spec: attention {path!r} should have the kernels "
            f"{list(names.values())}, got none at {missing}. {_ADVICE}"
        )
    ours = {
        f"{prefix}{layer}/{leaf}" for layer in layers for leaf in ("kernel", "bias")
    }
    normed = {name for name in inside if name[len(prefix) :].split("/")[0] in _NORMS}
    beside = sorted(inside - ours - normed)
    if beside and not known:
        raise ValueError(
            f"flax_spec: attention {path!r} should hold {list(layers)} and nothing "
            f"else, got {beside[0]!r} as well, which may tell heads apart. {_ADVICE}"
        )
    heads, groups, width = _shape_of_heads(tree, names)
    source, out = (tree[names[n]].shape[axis] for n, axis in (("query", 0), ("out", 2)))
    part = spaces.attention(
        path,
        Wire(source),
        Wire(out),
        heads,
        width,
        kv_heads=groups,
        qk=None if normed else qk,
    )
    return _fitted(part, tree)


def _shape_of_heads(tree: _Tree, names: Mapping[str, str]) -> tuple[int, int, int]:
    """Numbers of query heads and of key and value heads, and the width of a head."""
    shapes = {layer: tree[name].shape for layer, name in names.items()}
    for layer, shape in shapes.items():
        if len(shape) != 3:
            want = "[H, d, O]" if layer == "out" else "[E, H, d]"
            raise ValueError(
                f"flax_spec: {names[layer]!r} should have three axes, {want}, got "
                f"{shape}. Unstack layers that are scanned over; of stacked networks "
                f"give one, jax.tree.map(lambda a: a[0], params). {_ADVICE}"
            )
    heads, width = shapes["query"][1:]
    groups = shapes["key"][1]
    if heads % groups:
        raise ValueError(
            f"flax_spec: key and value heads should divide the {heads} heads of "
            f"{names['query']!r}, got {groups} in {names['key']!r}. {_ADVICE}"
        )
    expected = {
        "key": (shapes["key"][0], groups, width),
        "value": (shapes["value"][0], groups, width),
        "out": (heads, width, shapes["out"][2]),
    }
    wanted: dict[str, tuple[int, ...]] = {
        names[layer]: shape for layer, shape in expected.items()
    }
    for layer in (*_HEADS, "out"):
        kernel = expected.get(layer, shapes["query"])
        bias = kernel[2:] if layer == "out" else kernel[1:]
        wanted[names[layer].removesuffix("kernel") + "bias"] = bias
    for name, shape in wanted.items():
        if name in tree and tree[name].shape != shape:
            raise ValueError(
                f"flax_spec: {name!r} should have shape {shape}, to fit "
                f"{names['query']!r} of shape {shapes['query']} and the key and value "
                f"heads of {names['key']!r}, got {tree[name].shape}. {_ADVICE}"
            )
    return heads, groups, width


def _fitted(part: Part, tree: _Tree) -> Part:
    """The part with the leaves that are in the tree, by their paths there.

    Keys and values may read another stream than queries, of another width.
    """
    leaves: list[Leaf] = []
    for leaf in part.leaves:
        if leaf.path not in tree:
            continue
        path, shape = tree[leaf.path]
        axes = leaf.axes
        if leaf.path.endswith(("key/kernel", "value/kernel")):
            axes = (Axis(shape[0]), *axes[1:])
        leaves.append(spaces.stored_as(path, axes, shape))

    def route(r: Route) -> Route:
        kernel = r.kernel and tree[r.kernel].path
        return replace(r, kernel=kernel, bias=tree[r.bias].path)

    shifts = tuple(
        replace(
            shift, leaf=tree[shift.leaf].path, routes=tuple(map(route, shift.routes))
        )
        for shift in part.shifts
        if {shift.leaf, *(r.bias for r in shift.routes)} <= set(tree)
    )
    return Part(part.spaces, tuple(leaves), shifts)


def _hidden(
    tree: _Tree, moved: Mapping[str, Leaf], pairs: Mapping[str, tuple[str, str]]
) -> Part:
    """Units between two layers each, with the leaves that they move."""
    units: list[UnitSpace] = []
    leaves: dict[str, Leaf] = {}
    for layer, (activation, reader) in pairs.items():
        row = find_activation(activation)
        for name in (layer, reader):
            if _join(name, "kernel") not in tree:
                kernels = [k for k in tree if k.split("/")[-1] == "kernel"]
                raise ValueError(
                    f"flax_spec(hidden=...): expected layers with a kernel, {kernels}, "
                    f"got {name!r}."
                )
        space = _join(layer, "units").replace("/", ".")
        size = tree[_join(layer, "kernel")].shape[-1]
        biased = _join(layer, "bias") in tree
        units.append(UnitSpace(space, size, row.group if biased else row.still))
        touched = [(_join(layer, "kernel"), -1, Axis(size, space, 1))]
        if biased:
            write = Axis(size, space, 1, row.turn)
            touched.append((_join(layer, "bias"), -1, write))
        touched.append((_join(reader, "kernel"), -2, Axis(size, space, -row.degree)))
        before = list(pairs)[: len(units)]
        if reader in before:
            raise ValueError(
                f"flax_spec(hidden=...): layers should be in network order, got "
                f"{reader!r} before {layer!r}, which it reads."
            )
        for name, axis, unit in touched:
            path, shape = tree[name]
            leaf = leaves.get(path) or moved.get(path) or Leaf(path, _fixed(shape))
            leaves[path] = _marked(leaf, axis, unit)
    return Part(tuple(units), tuple(leaves.values()))


def _marked(leaf: Leaf, axis: int, unit: Axis) -> Leaf:
    """The leaf with one of its axes, counted from the end, moved by a space."""
    axes = list(leaf.axes)
    if len(axes) + axis < 0 or axes[axis] != Axis(unit.size):
        raise ValueError(
            f"flax_spec(hidden=...): {leaf.path!r} should have the {unit.size} units "
            f"of {unit.space!r} on axis {axis} of {len(axes)} and nothing else there, "
            f"got shape {leaf.stored}, moved by {[a.space for a in axes]}. Leave out "
            f"units that pass a flatten, a grouped convolution or a gate."
        )
    axes[axis] = unit
    return replace(leaf, axes=tuple(axes))
