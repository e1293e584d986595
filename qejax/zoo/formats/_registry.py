"""Formats of public zoos by name: a new format is a new row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qejax.zoo._zoo import Zoo
from qejax.zoo.formats._dws_inr import load_dws_inr_all
from qejax.zoo.formats._nfn_siren import load_nfn_siren_all
from qejax.zoo.formats._small_cnn_zoo import load_small_cnn_zoo_all
from qejax.zoo.formats._small_transformer_zoo import load_small_transformer_zoo_all

FORMATS: dict[str, Callable[..., dict[str, Zoo]]] = {
    "small_cnn_zoo": load_small_cnn_zoo_all,
    "small_transformer_zoo": load_small_transformer_zoo_all,
    "nfn_siren": load_nfn_siren_all,
    "dws_inr": load_dws_inr_all,
}
"""Loaders, `directory -> zoos by bucket`, by the name of the format.

A bucket holds networks of one architecture, activations included. Those of classifiers
take `cut_off`, the least accuracy of a network that is kept, before it is split."""


CLASSIFIERS = ("small_cnn_zoo", "small_transformer_zoo")
"""Formats whose networks have a test accuracy."""


def load(address: str, **options: Any) -> dict[str, Zoo]:
    """Returns all networks at an address `FORMAT:DIRECTORY`, by bucket.

    Args:
        address: such as `small_cnn_zoo:data/cifar10`.
        options: of the loader.

    Raises:
        ValueError: if the format is unknown, and as the loader.
        FileNotFoundError: as the loader.
    """
    name, _, directory = address.partition(":")
    if name not in FORMATS or not directory:
        raise ValueError(
            f"zoo address {address!r}: expected FORMAT:DIRECTORY with a format of "
            f"{list(FORMATS)}."
        )
    return FORMATS[name](Path(directory), **options)
