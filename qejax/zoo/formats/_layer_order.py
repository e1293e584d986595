"""Which layer of a file comes first: numbers, not text, and shapes that fit."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qejax.zoo.files import in_natural_order
from qejax.zoo.formats._naming import (
    STATISTICS,
    STYLES,
    family,
    split_name,
)

STATE = (
    "Say what the network is: --network FILE, or network.json beside the file, with "
    "what nets.NetConfig.to_dict() returns, in JSON."
)
STATED = (
    "The network that is given has such layers alone: see that it is the right one, "
    "and save its weights alone, or name their part with --part NAME."
)
"""What to do about a layer, before and after somebody said what the network is."""

MAX_FAMILIES = 7
"""Of layers that are named differently, in files that keep no order."""


class FileLayer(NamedTuple):
    """A layer of a file.

    Attributes:
        name: in front of the kinds.
        tensors: by kind, as the file calls it.
    """

    name: str
    tensors: dict[str, np.ndarray]


class Kernel(NamedTuple):
    """What a kernel reads and writes, and its window, `()` of a dense layer."""

    inputs: int
    outputs: int
    window: tuple[int, ...]


def grouped(tensors: Mapping[str, np.ndarray]) -> dict[str, FileLayer]:
    """Returns the layers of a file by name, in its order."""
    layers: dict[str, FileLayer] = {}
    for name, tensor in tensors.items():
        layer, kind = split_name(name)
        layers.setdefault(layer, FileLayer(layer, {})).tensors[kind] = tensor
    return layers


def kernel_of(where: str, layer: FileLayer, style: str, advice: str = STATE) -> Kernel:
    """Returns the sizes of a dense or convolution layer.

    Args:
        where: the file, for messages.
        layer: of it.
        style: of its names.
        advice: what to do if it is none.

    Raises:
        ValueError: if it is none, or has further tensors; says what to do.
    """
    row = STYLES[style]
    norms = STATISTICS & set(layer.tensors)
    if norms:
        raise ValueError(
            f"{where}: expected layers without batch norm, got {layer.name!r} with "
            f"{sorted(norms)}. Fold it into the layer before with "
            f"qejax.nets.fold_batch_norm, and save that."
        )
    kernel = layer.tensors.get(row.kinds["kernel"])
    bias = layer.tensors.get(row.kinds["bias"])
    known = {row.kinds["kernel"], row.kinds["bias"]}
    if kernel is not None and kernel.ndim in (2, 4) and set(layer.tensors) <= known:
        first = row.outputs_first
        sizes = kernel.shape[:2][::-1] if first else kernel.shape[-2:]
        window = kernel.shape[2:] if first else kernel.shape[:-2]
        if bias is None or bias.shape == sizes[1:]:
            return Kernel(sizes[0], sizes[1], window)
    shapes = {kind: tensor.shape for kind, tensor in layer.tensors.items()}
    raise ValueError(
        f"{where}: expected dense layers and convolutions, with or without bias, got "
        f"{layer.name!r} with {shapes}. {advice}"
    )


def chained(kernels: Sequence[Kernel]) -> bool:
    """Whether every layer reads what the one before it writes.

    A dense layer may read many positions of a map.
    """
    for before, after in itertools.pairwise(kernels):
        flat = bool(before.window) and not after.window
        fits = after.inputs % before.outputs == 0 if flat else True
        fits = fits and (flat or after.inputs == before.outputs)
        if not fits or (after.window and not before.window):
            return False
    return True


def in_order(
    where: str,
    layers: Mapping[str, FileLayer],
    style: str,
    ordered: bool,
    advice: str = STATE,
) -> list[FileLayer]:
    """Returns the layers of a chain as they are computed.

    Layers that differ in their numbers alone come in the order of these: `Dense_2`
    before `Dense_10`. Beyond that, a file that keeps the order of the model is
    believed; of one that does not, the only order in which shapes fit is taken.
    `advice` is what to do about a layer that is none of a chain.

    Raises:
        ValueError: if a layer is none of a chain, or there is not one such order.
    """
    kernels = {
        name: kernel_of(where, layer, style, advice) for name, layer in layers.items()
    }
    families: dict[str, list[str]] = {}
    for name in layers:
        families.setdefault(family(name), []).append(name)
    sorted_families = {key: in_natural_order(names) for key, names in families.items()}
    if ordered and sorted_families == families:
        orders = [list(layers)]
    elif len(families) <= MAX_FAMILIES:
        blocks = itertools.permutations(sorted_families.values())
        orders = [list(itertools.chain(*block)) for block in blocks]
    else:
        orders = []
    fitting = [order for order in orders if chained([kernels[n] for n in order])]
    if len(fitting) != 1:
        found = f"{len(fitting)} orders" if len(orders) != 1 else _break(kernels)
        raise ValueError(
            f"{where}: expected layers of which each reads what the one before it "
            f"writes, in one order only, got {found}. Number the layers. {advice}"
        )
    return [layers[name] for name in fitting[0]]


def _break(kernels: Mapping[str, Kernel]) -> str:
    """Where a chain of layers breaks."""
    pairs: Iterable[tuple[str, str]] = itertools.pairwise(in_natural_order(kernels))
    for before, after in pairs:
        if not chained([kernels[before], kernels[after]]):
            wrote, reads = kernels[before].outputs, kernels[after].inputs
            return f"{after!r} that reads {reads} behind {before!r} that writes {wrote}"
    return f"{len(kernels)} layers that do not fit"
