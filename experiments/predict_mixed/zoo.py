"""The zoo: networks of every architecture, trained, then one mixed bucket of all.

A second mixed bucket is without the architectures that the models of the second column
never read. Both hold the normal forms that the metanetwork reads.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.devices import mesh_of
from experiments.predict_accuracy.data import digits
from experiments.predict_mixed.config import ARCHITECTURES, Config
from qejax import zoo
from qejax.nets import MLPConfig

CHUNK, MINIBATCH = 40, 32
"""Networks that are trained together, and images of a step."""

IMAGES = 797
"""Over which test accuracies are measured."""

GENERATED = 0.8
"""Share of the work that is training; the rest are normal forms."""


class Column(NamedTuple):
    """What the models of one column of the table are trained and tested on.

    Attributes:
        root: of the mixed bucket whose training and validation splits they read.
        mixed: that bucket in memory.
        tested: the networks that they are tested on, opened by `final_test` only.
    """

    root: Path
    mixed: zoo.MixedZoo
    tested: Callable[[], zoo.MixedZoo]


def load(config: Config, tell: Callable[[float, float], None]) -> tuple[Column, Column]:
    """Returns the column of all architectures, and that of unseen ones.

    Networks are trained, and mixed buckets written, unless they are there already.

    Args:
        config: of the run.
        tell: takes the share that is done, and the share that was found done.

    Raises:
        ValueError: if another zoo is in the place of one.
    """
    found = _generated(config, lambda share, old: tell(GENERATED * share, old))
    joined = zoo.joined(zoo.Found(found, (), "clean", ""))
    whole = zoo.import_zoo(joined, config.out / "mixed", {"left_out": []})
    tell(0.95, 0.0)
    stored = zoo.list_prepared(whole)
    (listing,) = stored.listings.values()
    names = np.array(config.architectures)[listing.places]
    rows = np.flatnonzero(~np.isin(names, config.unseen))
    # Their normal forms are there already.
    less = zoo.import_zoo(
        stored._replace(listings={"mixed": listing.take(rows)}),
        config.out / "mixed_seen",
        {"left_out": list(config.unseen)},
    )
    tell(1.0, 0.0)
    every, some = zoo.read_mixed(whole), zoo.read_mixed(less)

    def unseen() -> zoo.MixedZoo:
        """All of them but those of the validation split."""
        names = np.array(config.architectures)[every.which]
        rows = np.isin(names, config.unseen) & (every.split != zoo.SPLITS["val"])
        return every.take(np.flatnonzero(rows))

    return (
        Column(whole, every, lambda: every.select("test")),
        Column(less, some, unseen),
    )


def _generated(
    config: Config, tell: Callable[[float, float], None]
) -> dict[str, zoo.Listing]:
    """Trains all networks; MLPs read rows of pixels, CNNs images."""
    given = digits()
    kinds: dict[str, list[str]] = {"mlps": [], "cnns": []}
    for name in config.architectures:
        dense = isinstance(ARCHITECTURES[name], MLPConfig)
        kinds["mlps" if dense else "cnns"].append(name)
    listings: dict[str, zoo.Listing] = {}
    done = 0.0
    for number, (kind, names) in enumerate(kinds.items()):
        if not names:
            continue
        share = len(names) / len(config.architectures)

        def report(now: zoo.Progress, start: float = done, part: float = share) -> None:
            reached = start + part * now.work / now.total_work
            tell(reached, reached if now.resumed else 0.0)

        shape = (-1, 64) if kind == "mlps" else (-1, 8, 8, 1)
        data = zoo.Data(
            given.train_x.reshape(shape),
            given.train_y,
            given.test_x.reshape(shape),
            given.test_y,
        )
        recipe = zoo.ZooConfig(
            buckets={name: ARCHITECTURES[name] for name in names},
            count=config.networks,
            seed=2 * config.seed + number,
            steps=config.zoo_steps,
            batch=MINIBATCH,
            learning_rate=config.zoo_rates,
            chunk=CHUNK,
            split_seed=2 * config.seed + number,
        )
        root = zoo.generate(
            recipe, data, config.out / "zoo" / kind, report, mesh_of(config)
        )
        listings |= zoo.list_prepared(root).listings
        done += share
    return {name: listings[name] for name in config.architectures}
