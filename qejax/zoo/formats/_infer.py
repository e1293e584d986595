"""Networks from tensors, and weights between their files and ours."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qejax import nets
from qejax.nets import CNNConfig, CoordinateConfig, MLPConfig, NetConfig, Network
from qejax.spaces import Leaf
from qejax.zoo.files._bounds import MAX_TEXT, open_file
from qejax.zoo.formats._layer_order import (
    STATED as GIVEN,
)
from qejax.zoo.formats._layer_order import (
    FileLayer,
    Kernel,
    grouped,
    in_order,
    kernel_of,
)
from qejax.zoo.formats._naming import (
    STYLES,
    layout,
    leaf_layer,
    style_of,
    tensor_name,
    to_leaf,
    to_tensor,
)

STATED, FIELD = "network.json", "qejax_network"
"""Where a configuration is: a file of the folder, a field of a file of tensors."""

NEEDED = {
    "mlp": ("activation",),
    "cnn": ("activation", "strides", "padding", "head"),
}
"""What tensors cannot tell, by kind of network; there is no default."""

MAX_SIZE, MAX_COUNT = 2**31, 1000
"""Largest number in a configuration of others, and how many layers it may repeat."""

_COUNTS = ("blocks", "depth", "octaves")
_CHAINS = (MLPConfig, CNNConfig, CoordinateConfig)


def network_of(
    tensors: Mapping[str, np.ndarray],
    *,
    network: Network | NetConfig | Mapping[str, Any] | None = None,
    ordered: bool = True,
    where: str = "tensors",
    **fields: Any,
) -> Network:
    """Returns the network that has these weights: a chain of layers, or the given one.

    Dense layers make an `mlp`, convolutions and one dense layer a `cnn`. What weights
    cannot tell is asked for: the activation, and strides, padding and head of
    convolutions, `image=(height, width)` as well where maps are flattened. Pools and
    hidden dense layers behind convolutions, and networks of other kinds, are read where
    `network` says them.

    Args:
        tensors: by name, as PyTorch, Flax, Keras or this package names them.
        network: what the network is; tensors and other arguments are then not looked
            at, `to_vector` compares them.
        ordered: whether `tensors` are in the order of the model, as in files by
            PyTorch. Layers are always in the order of their numbers where they differ
            in these alone; where they do not, and `ordered` is false, shapes must
            leave one order only.
        where: the file, for messages.
        **fields: of `nets.MLPConfig` or `nets.CNNConfig`.

    Raises:
        ValueError: if the tensors are no such chain, or something that they cannot
            tell is missing; says how to give the network.

    Example:
        >>> shapes = {"0.weight": (8, 2), "0.bias": (8,), "2.weight": (1, 8)}
        >>> tensors = {name: np.zeros(shape) for name, shape in shapes.items()}
        >>> network_of(tensors, activation="tanh").config
        MLPConfig(widths=(2, 8, 1), activation=('tanh',), residual=False)
    """
    if network is not None:
        if isinstance(network, Network):
            return network
        return nets.build(network if isinstance(network, NetConfig) else dict(network))
    style = style_of(where, tensors)
    layers = in_order(where, grouped(tensors), style, ordered)
    kernels = [kernel_of(where, layer, style) for layer in layers]
    found = _known(where, kernels)
    needed = NEEDED[found["kind"]]
    if found["kind"] == "mlp" and len(kernels) == 1:
        needed = ()
    if fields.get("head") == "flatten":
        needed = (*needed, "image")
    missing = [name for name in needed if fields.get(name) is None]
    if missing:
        raise ValueError(
            f"{where}: tensors of a network of kind {found['kind']!r} do not tell its "
            f"{missing}, got none. {_ask(missing)}"
        )
    try:
        return nets.build({**found, **fields})
    except ValueError as error:
        raise ValueError(
            f"{where}: tensors of shapes {found} should make a network with {fields}, "
            f"got: {error}"
        ) from error


def _ask(missing: list[str]) -> str:
    """How to tell what is missing."""
    alone = "Give --activation NAME, or " if missing == ["activation"] else "Give "
    python = ", ".join(f"{name}=..." for name in missing)
    return (
        f"{alone}the whole network with --network FILE, or network.json beside the "
        f"file: nets.NetConfig.to_dict() in JSON; to network_of in Python {python}."
    )


def _known(where: str, kernels: list[Kernel]) -> dict[str, Any]:
    """What tensors tell of a configuration."""
    convolutions = [kernel for kernel in kernels if kernel.window]
    if not convolutions:
        widths = (kernels[0].inputs, *(kernel.outputs for kernel in kernels))
        return {"kind": "mlp", "widths": widths}
    if len(kernels) - len(convolutions) != 1:
        raise ValueError(
            f"{where}: expected convolutions and one dense layer, got "
            f"{len(convolutions)} and {len(kernels) - len(convolutions)}. Pools and "
            f"hidden dense layers (pools, hidden of nets.cnn) are told by no tensor: "
            f"give the network with --network FILE, or network.json beside the file."
        )
    return {
        "kind": "cnn",
        "in_channels": kernels[0].inputs,
        "channels": tuple(kernel.outputs for kernel in convolutions),
        "windows": tuple(kernel.window for kernel in convolutions),
        "num_outputs": kernels[-1].outputs,
    }


def stated_network(path: Path, fields: Mapping[str, Any]) -> NetConfig | None:
    """Returns the configuration that stands beside or in a file of tensors, if any.

    Args:
        path: of the file; `network.json` in its folder counts.
        fields: of the file; `qejax_network` counts first.

    Raises:
        ValueError: if it is no configuration; names the file.
    """
    text, place = fields.get(FIELD), f"{path}: field {FIELD}"
    beside = path.parent / STATED
    if text is None and beside.is_file():
        with open_file(beside, "the configuration of a network") as file:
            text, place = file.read(MAX_TEXT), str(beside)
    if text is None:
        return None
    try:
        values = dict(json.loads(text))
        _check_numbers(values)
        return nets.config_from_dict(values)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{place}: expected the configuration of a network in JSON, as "
            f"nets.NetConfig.to_dict() returns it, got {str(text)[:80]!r} ({error})."
        ) from error


def _check_numbers(value: Any, limit: int = MAX_SIZE) -> None:
    """Raises unless all numbers in a configuration are of a size to build it."""
    if isinstance(value, dict):
        for name, item in value.items():
            _check_numbers(item, MAX_COUNT if name in _COUNTS else limit)
    elif isinstance(value, list):
        for item in value:
            _check_numbers(item, limit)
    elif isinstance(value, int | float) and not abs(value) <= limit:
        raise ValueError(f"numbers should be at most {limit} here, got one beyond")


def to_vector(
    network: Network,
    tensors: Mapping[str, np.ndarray],
    *,
    names: Mapping[str, str] | None = None,
    ordered: bool = True,
    where: str = "tensors",
) -> np.ndarray:
    """Returns the weights of a network as `[P]` float32, in the order of its spec.

    Tensors that are named as `from_vector` names them, in any style, are taken by
    name. Others are taken layer by layer: in the order of `network_of` for chains, in
    the order of the file for everything else, whose shapes must then tell layers
    apart: queries and keys of one shape, saved in another order, are taken for each
    other. Pass `names` where that can be. A missing bias is zero.

    Args:
        network: whose weights they are.
        tensors: by name.
        names: layers of the file by ours, `{"block_00/attention/query": "enc.0.q"}`;
            all of them.
        ordered: as `network_of`.
        where: the file, for messages.

    Raises:
        ValueError: if a leaf has no tensor, a tensor has no place, or shapes do not
            fit; names it.
    """
    leaves = network.spec.leaves
    for style, row in STYLES.items():
        own = {tensor_name(leaf, row): leaf for leaf in leaves}
        if set(own) == set(tensors):
            pairs = [(leaf, tensors[name], name) for name, leaf in own.items()]
            return _joined(where, network, style, pairs)
    style = style_of(where, tensors)
    layers = grouped(tensors)
    wanted: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        wanted.setdefault(leaf_layer(leaf)[0], []).append(leaf)
    if names is not None:
        order = [layers.get(names.get(layer, layer)) for layer in wanted]
        order = [layer or FileLayer("", {}) for layer in order]
    elif isinstance(network.config, _CHAINS):
        order = in_order(where, layers, style, ordered, GIVEN)
    elif ordered:
        order = list(layers.values())
    else:
        raise ValueError(
            f"{where}: expected tensors that are named as those of the network, "
            f"{list(wanted)[:3]}..., since the file keeps no order, got "
            f"{list(layers)[:3]}... Rename them as nets.build(config).spec does; "
            f"to_vector in Python takes names={{ours: theirs}}."
        )
    placed = {layer.name for layer in order[: len(wanted)]}
    over = [name for name in layers if name not in placed]
    if len(order) < len(wanted) or over:
        raise ValueError(
            f"{where}: expected the {len(wanted)} layers {list(wanted)[:8]}, got "
            f"{len(layers)}: {over[:3] or list(layers)[:8]} have no place. Give the "
            f"network that has these weights."
        )
    pairs = []
    for layer, own_leaves in zip(order, wanted.values(), strict=True):
        pairs += _placed(where, layer, own_leaves, style)
    return _joined(where, network, style, pairs)


_Pair = tuple[Leaf, np.ndarray | None, str]


def _placed(
    where: str, layer: FileLayer, leaves: list[Leaf], style: str
) -> list[_Pair]:
    """The tensors of one layer beside its leaves."""
    kinds = STYLES[style].kinds
    own = {kinds.get(leaf_layer(leaf)[1], leaf_layer(leaf)[1]): leaf for leaf in leaves}
    over = [kind for kind in layer.tensors if kind not in own]
    short = [
        kind for kind in own if kind not in layer.tensors and kind != kinds["bias"]
    ]
    if over or short:
        raise ValueError(
            f"{where}: layer {layer.name!r} should have {list(own)}, got "
            f"{list(layer.tensors)}: {over or short} has no place or is not there. "
            f"Give the network that has these weights with --network FILE; to_vector "
            f"in Python takes names={{ours: theirs}}."
        )
    return [
        (leaf, layer.tensors.get(kind), f"{layer.name}.{kind}")
        for kind, leaf in own.items()
    ]


def _joined(
    where: str, network: Network, style: str, pairs: Iterable[_Pair]
) -> np.ndarray:
    """The vector of leaves from their tensors."""
    found: dict[str, np.ndarray] = {}
    for leaf, tensor, name in pairs:
        how = layout(network, leaf, STYLES[style])
        if tensor is None:
            found[leaf.path] = np.zeros(leaf.size, np.float32)
            continue
        stays = how.axes == tuple(range(len(how.axes)))
        shapes = (how.shape, leaf.stored) if stays else (how.shape,)
        floats = tensor.dtype.kind == "f" or "float" in tensor.dtype.name
        if tensor.shape not in shapes or not floats:
            raise ValueError(
                f"{where}: tensor {name!r} should be floating numbers of shape "
                f"{how.shape}, to be {leaf.path!r} of the network, got {tensor.dtype} "
                f"of shape {tensor.shape}. Give the network that has these weights."
            )
        with np.errstate(over="ignore"):
            values = tensor.astype(np.float32)
        found[leaf.path] = to_leaf(values, how, leaf).reshape(-1)
    return np.concatenate([found[leaf.path] for leaf in network.spec.leaves])


def from_vector(
    network: Network, vector: np.ndarray, style: str = "torch"
) -> dict[str, np.ndarray]:
    """Returns the weights of a network as a library stores them, by name.

    Args:
        network: whose weights they are.
        vector: `[P]`, in the order of the spec.
        style: "torch", "flax", "keras" or "qejax": names of kinds, and order of axes.
            Layers are named as ours are.

    Raises:
        ValueError: if the style is unknown, or the vector has another length.

    Example:
        >>> net = nets.mlp((4, 3, 2))
        >>> tensors = from_vector(net, np.arange(23, dtype="float32"))
        >>> {name: tensor.shape for name, tensor in tensors.items()}
        {'layer_00.weight': (3, 4), 'layer_00.bias': (3,), 'layer_01.weight': (2, 3), \
'layer_01.bias': (2,)}
        >>> bool((to_vector(net, tensors) == np.arange(23)).all())
        True
    """
    if style not in STYLES:
        raise ValueError(
            f"from_vector: style should be one of {list(STYLES)}, got {style!r}."
        )
    if vector.shape != (network.spec.num_parameters,):
        raise ValueError(
            f"from_vector: expected a vector of {network.spec.num_parameters} weights, "
            f"got shape {vector.shape}."
        )
    row, tensors, start = STYLES[style], {}, 0
    for leaf in network.spec.leaves:
        values = vector[start : start + leaf.size]
        tensors[tensor_name(leaf, row)] = to_tensor(values, layout(network, leaf, row))
        start += leaf.size
    return tensors
