"""Who trains, selects and tests: the splits of the literature, and a clean one.

"clean" splits training runs at random from a seed, after all filters: no run is in two
splits. The others repeat what published code does, under the name of that code, so that
numbers can be compared with published ones:

- Small CNN Zoo, `faithful_nfn` (nfn, neural-graphs, ScaleGMN): all rows in the order of
  a published table, then those at step 86, of all activations together; the last half
  tests, the first is shuffled by `random.Random(0)` and cut 80 to 20. ScaleGMN filters
  by activation after that, as buckets here do.
- Small CNN Zoo, `faithful_monomial` (Monomial-NFN, MAGEP-NFN): the same, but for one
  activation at a time: their test networks are others.
- Small Transformer Zoo, `faithful_transformer_nfn`: networks of the epoch that reach
  the cut-off, shuffled by `random.Random(3)`, cut 70 to 15 to 15: every cut-off has a
  split of its own.
- modelzoos.cc, `faithful_sane`: runs in the order of their names, shuffled by
  `random.Random(42)`, cut 70 to 15 to 15.
- NFN SIREN, `faithful_nfn`: by the index of the image. DWS INRs, `faithful_dws`, and
  CNN Wild Park, `faithful_neural_graphs`: by the table that is part of the zoo.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qejax.zoo._splits import split_runs
from qejax.zoo._zoo import TEST, TRAIN, VAL

CLEAN = "clean"
STEP = 86
"""Of the checkpoints that the literature takes of the Small CNN Zoo."""


class Order(NamedTuple):
    """What a split of a Small CNN Zoo is made of.

    Attributes:
        directory: of the zoo.
        kept: rows by activation.
        metrics: all lines of the table.
        seed: of the clean split.
        file: the published order of all rows.
    """

    directory: Path
    kept: Mapping[str, np.ndarray]
    metrics: Sequence[dict[str, str]]
    seed: int
    file: str | Path | None


def _clean(order: Order) -> dict[str, np.ndarray]:
    runs = np.array([line["modeldir"] for line in order.metrics], str)
    return {
        name: split_runs(runs[rows], order.seed) for name, rows in order.kept.items()
    }


def _together(order: Order) -> dict[str, np.ndarray]:
    rows = np.concatenate(list(order.kept.values()))
    codes = dict(zip(rows.tolist(), _halves(order, rows).tolist(), strict=True))
    return {
        name: np.array([codes[row] for row in rows.tolist()], np.int8)
        for name, rows in order.kept.items()
    }


def _apart(order: Order) -> dict[str, np.ndarray]:
    return {name: _halves(order, rows) for name, rows in order.kept.items()}


SMALL_CNN_ZOO: dict[str, Callable[[Order], dict[str, np.ndarray]]] = {
    CLEAN: _clean,
    "faithful_nfn": _together,
    "faithful_monomial": _apart,
}
"""Codes by activation; -1 for a network that the protocol leaves out."""


def small_cnn_codes(protocol: str, order: Order) -> dict[str, np.ndarray]:
    """Returns the splits of the kept rows, by activation.

    Raises:
        ValueError: if the protocol is unknown, or its order of rows is missing or does
            not fit the table.
    """
    check_protocol(order.directory, protocol, SMALL_CNN_ZOO)
    return SMALL_CNN_ZOO[protocol](order)


TRANSFORMER_FRACTIONS = (0.7, 0.15)
"""Of the training and the validation split, as published."""

Codes = Callable[[np.ndarray, int], np.ndarray]
"""From the names of runs and a seed to codes."""

SMALL_TRANSFORMER_ZOO: dict[str, Codes] = {
    CLEAN: lambda runs, seed: split_runs(runs, seed, TRANSFORMER_FRACTIONS),
    "faithful_transformer_nfn": lambda runs, seed: shuffled_codes(
        len(runs), random.Random(3), TRANSFORMER_FRACTIONS
    ),
}


def check_protocol(where: object, protocol: str, known: Mapping[str, object]) -> None:
    """Raises a `ValueError` unless a protocol is known."""
    if protocol not in known:
        raise ValueError(
            f"{where}: protocol should be one of {list(known)}, got {protocol!r}."
        )


def shuffled_codes(
    count: int, generator: random.Random, fractions: tuple[float, float]
) -> np.ndarray:
    """Returns codes of a list that is shuffled by Python's generator and cut twice.

    Args:
        count: of the list.
        generator: shuffles.
        fractions: of the training and the validation split, in the shuffled order;
            lengths are rounded down.
    """
    places = list(range(count))
    generator.shuffle(places)
    first = int(fractions[0] * count)
    second = first + int(fractions[1] * count)
    codes = np.full(count, TEST, np.int8)
    codes[places[:first]], codes[places[first:second]] = TRAIN, VAL
    return codes


def _halves(order: Order, rows: np.ndarray) -> np.ndarray:
    """The published split of these rows, of those at step 86."""
    final = [row for row in rows.tolist() if float(order.metrics[row]["step"]) == STEP]
    wanted, listed = set(final), _published(order)
    ordered = [row for row in listed if row in wanted]
    if len(ordered) != len(wanted):
        raise ValueError(
            f"{order.file}: expected every network at step {STEP} once, got "
            f"{len(ordered)} entries for {len(wanted)} networks. One that is there "
            f"twice may be in two splits: use protocol {CLEAN!r}."
        )
    half = int(0.5 * len(ordered))
    codes = dict.fromkeys(ordered[half:], TEST)
    first = shuffled_codes(half, random.Random(0), (0.8, 0.2))
    # What rounding leaves over is the end of the validation split.
    first[first == TEST] = VAL
    codes |= dict(zip(ordered[:half], first.tolist(), strict=True))
    return np.array([codes.get(row, -1) for row in rows.tolist()], np.int8)


def _published(order: Order) -> list[int]:
    """The order of all rows.

    The published tables begin with a header that published code reads as row 0.
    """
    if order.file is None:
        raise ValueError(
            f"{order.directory}: the published protocols need the order of all rows: "
            f"give split_file, such as cifar10_split.csv of nfn, or use protocol "
            f"{CLEAN!r}."
        )
    try:
        lines = Path(order.file).read_text().split()
        rows = [int(line) for line in lines]
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{order.file}: expected one row number a line, got {error}."
        ) from error
    count = len(order.metrics)
    if sorted(set(rows)) != list(range(count)) or len(rows) - count not in (0, 1):
        raise ValueError(
            f"{order.file}: expected the numbers 0 to {count - 1} once, perhaps behind "
            f"a header 0, got {len(rows)} with {len(set(rows))} different ones."
        )
    return rows
