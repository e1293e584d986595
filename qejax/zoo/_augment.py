"""Symmetry augmentation: other weights, same functions, of training networks only."""

from typing import Any

import jax
import numpy as np

from qejax import spaces
from qejax._typing import PRNGKeyArray
from qejax.spaces import WeightSpec
from qejax.zoo._normal import NormalForm, normal_forms
from qejax.zoo._zoo import TRAIN, Zoo, from_vectors, to_vectors


def _move(
    key: PRNGKeyArray, spec: WeightSpec, thetas: Any, count: int, spread: float
) -> Any:
    """One random element for each of `count` stacked networks, in one program."""

    def one(key: PRNGKeyArray, theta: Any) -> Any:
        return spaces.act(spec, spaces.sample(key, spec, spread), theta)

    return jax.jit(jax.vmap(one))(jax.random.split(key, count), thetas)


def augment_rows(
    key: PRNGKeyArray, zoo: Zoo, rows: np.ndarray, spread: float = 10.0
) -> Any:
    """Returns networks of the training split, each moved by an element of its own.

    Args:
        key: consumed.
        zoo: the networks.
        rows: of the training split, `[R]`.
        spread: of positive scales, see `spaces.sample`.

    Returns:
        Stacked weights with a leading axis `R`; every network computes the function
        that it computed before.

    Raises:
        ValueError: if a row is not of the training split: validation and test networks
            are never moved.
    """
    rows = np.asarray(rows)
    outside = rows[zoo.split[rows] != TRAIN]
    if len(outside):
        raise ValueError(
            f"augment_rows: only networks of the training split are augmented, got row "
            f"{int(outside[0])} with split code {int(zoo.split[outside[0]])}. Use "
            f"zoo.rows('train')."
        )
    thetas = zoo.take(rows).thetas
    return _move(key, zoo.network.spec, thetas, len(rows), spread)


def augment(key: PRNGKeyArray, zoo: Zoo, copies: int = 1, spread: float = 10.0) -> Zoo:
    """Returns the zoo with moved copies of its training networks appended.

    The rows that there were keep their place and every byte; validation and test
    networks get no copies.

    Args:
        key: consumed.
        zoo: the networks.
        copies: of each training network.
        spread: of positive scales, see `spaces.sample`.

    Returns:
        A zoo of `B + copies * B_train` networks; copy `c` of network `ID` has the id
        `ID~c`, its labels and hyper-parameters, and the training split. Where the zoo
        has normal forms, those of the copies are computed: they are the normal forms
        of the originals with units permuted, up to the rounding of the moved weights.

    Raises:
        ValueError: if `copies` is negative.
    """
    if copies < 0:
        raise ValueError(f"augment(copies=...): expected at least 0, got {copies}.")
    rows, spec = zoo.rows("train"), zoo.network.spec
    vectors = [zoo.vectors()]
    normal = [] if zoo.normal is None else [zoo.normal]
    for copy in range(copies):
        moved = augment_rows(jax.random.fold_in(key, copy), zoo, rows, spread)
        moved = jax.device_get(moved)
        vectors.append(to_vectors(spec, moved))
        if normal:
            normal.append(normal_forms(spec, moved))
    every = np.concatenate([np.arange(len(zoo)), *[rows] * copies])
    ids = [zoo.ids, *(np.char.add(zoo.ids[rows], f"~{c + 1}") for c in range(copies))]
    taken = zoo.take(every)
    return Zoo(
        network=zoo.network,
        thetas=from_vectors(spec, np.concatenate(vectors)),
        labels=taken.labels,
        hyper=taken.hyper,
        split=taken.split,
        source=f"{zoo.source} + {copies} moved copies",
        ids=np.concatenate(ids),
        normal=NormalForm(*map(np.concatenate, zip(*normal, strict=True)))
        if normal
        else None,
    )
