"""A padded chain as the weights of its network again."""

from typing import Any

from qejax._typing import Array, Theta
from qejax.nets._network import Network, layer_name
from qejax.nets._plain import plain_shapes
from qejax.nets._skip_cnn import SkipCNN
from qejax.spaces import Chain


def unpadded(network: Network, chain: Chain) -> Theta:
    """Returns the weights that a chain holds; undoes `padded`.

    Of a chain in normal form these are the weights of a network in normal form.

    Args:
        network: that the chain is of.
        chain: of one network, of NumPy or of JAX, of any size that holds it.

    Returns:
        A nested dict in the structure of `network.spec`, of the dtype of the chain.

    Raises:
        ValueError: if the network is no chain of layers, or larger than the chain.

    Example:
        >>> import jax
        >>> from qejax import nets
        >>> net = nets.mlp((4, 3, 2))
        >>> theta = net.init(jax.random.key(0))
        >>> size = nets.PadSize(layers=3, width=8, inputs=4, outputs=2)
        >>> again = unpadded(net, nets.padded(net, theta, size))
        >>> bool((again["layer_00"]["kernel"] == theta["layer_00"]["kernel"]).all())
        True
    """
    shapes = plain_shapes(network)
    hidden, (layers, units) = len(shapes) - 1, chain.bias.shape
    if hidden > layers or max(shape[3] for shape in shapes[:-1]) > units:
        raise ValueError(
            f"unpadded: expected a network of at most {layers} layers of {units} "
            f"units, as the chain has, got {network.config}."
        )
    kernels: list[Any] = [chain.first, *chain.middle[: hidden - 1], chain.last]
    biases: list[Any] = [*chain.bias[:hidden], chain.last_bias]
    plain = {
        layer_name(number): {
            "kernel": _cut(kernel, shape),
            "bias": bias[: shape[3]],
        }
        for number, (kernel, bias, shape) in enumerate(
            zip(kernels, biases, shapes, strict=True)
        )
    }
    if isinstance(network, SkipCNN):
        end = plain[layer_name(hidden)]
        end["kernel"] = end["kernel"].reshape(shapes[-1][2:])
        return network.split(plain)
    stored = {leaf.path: leaf.stored for leaf in network.spec.leaves}
    return {
        layer: {name: x.reshape(stored[f"{layer}/{name}"]) for name, x in row.items()}
        for layer, row in plain.items()
    }


def _cut(kernel: Array, shape: tuple[int, ...]) -> Array:
    """The middle of a window, and the first units."""
    height, width, n_in, n_out = shape
    top, left = (
        side // 2 - own // 2
        for side, own in zip(kernel.shape, (height, width), strict=False)
    )
    return kernel[top : top + height, left : left + width, :n_in, :n_out]
