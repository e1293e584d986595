"""A prepared zoo of coordinate networks, in the order of the PyTorch peers."""

from pathlib import Path

import numpy as np

from benchmarks.peers.zoo import Split, Zoo
from qejax import zoo


def read_fits(folder: str | Path) -> tuple[Zoo, Split]:
    """Reads a zoo that `python -m experiments.make_zoo --task inr` made.

    Kernels `[N, n_in, n_out]` leave as `[N, n_out, n_in]`, labels as whole numbers.

    Returns:
        All networks, and the rows of each split, ascending: the first `n` training
        networks are those that `experiments.classify_inr --networks n` reads.

    Raises:
        ValueError: if there is more than one fit of a signal.
    """
    fits = zoo.read(folder)
    copies = int(fits.hyper["copy"].max()) + 1
    if copies > 1:
        raise ValueError(f"expected one fit of every signal, found {copies}.")
    layers = [fits.thetas[name] for name in sorted(fits.thetas)]
    return (
        Zoo(
            tuple(np.ascontiguousarray(x["kernel"].swapaxes(1, 2)) for x in layers),
            tuple(x["bias"] for x in layers),
            fits.labels["class"].astype(np.int64),
        ),
        Split(*(fits.rows(name) for name in ("train", "val", "test"))),
    )
