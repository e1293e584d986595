"""Training a zoo from a seed, chunk by chunk, resumable, and written to disk once.

While it is being made, a zoo lives in `OUT.partial`: its configuration and one file
per finished chunk. The same call goes on where an interrupted one stopped, to the
same bytes. `OUT` appears when everything is there, and a later call returns at once.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from qejax import nets
from qejax._processes import on_first, wait_for_all
from qejax.nets import Network
from qejax.zoo._config import ZooConfig
from qejax.zoo._data import checked_data, digest_of_data
from qejax.zoo._hyper import coefficients, draw_hyper, minibatches, schedule, subsets
from qejax.zoo._normal_together import normal_forms_together
from qejax.zoo._parts import begun, load_part, partial_of, save_part, sweep
from qejax.zoo._splits import split_networks
from qejax.zoo._store import store
from qejax.zoo._train_many import LABELS, Chunk, Data, make_program
from qejax.zoo._workers import Workers, is_own
from qejax.zoo._zoo import Zoo, from_vectors, to_vectors


class Progress(NamedTuple):
    """Where a generation stands; of many processes, the share of this one.

    Attributes:
        bucket: the bucket that the last chunk belongs to.
        networks: trained so far, all buckets, kept ones of an earlier call included.
        num_networks: in all.
        work: training steps of networks so far; in proportion to time.
        total_work: in all.
        resumed: whether the last chunk was found on disk.
    """

    bucket: str
    networks: int
    num_networks: int
    work: int
    total_work: int
    resumed: bool


def generate(
    config: ZooConfig,
    data: Data,
    out: str | Path,
    progress: Callable[[Progress], None] | None = None,
    mesh: Mesh | None = None,
) -> Path:
    """Makes the zoo of a configuration in the folder `out`, or finds it there.

    One program trains a whole chunk of networks by a loop over steps; which optimiser
    a network has, and every other hyper-parameter, is data. Networks are put into
    chunks by their stopping step, so that few steps are computed in vain. One seed
    decides every byte, on one kind of device and one version of jax.

    Networks with a weight or a label that is not finite have diverged: they are
    dropped, and counted in the manifest.

    Args:
        config: how the networks are trained.
        data: what they are trained and tested on; the labels of the zoo are measured
            on `data.test_x`, and on the part of `data.train_x` that a network saw.
        out: the folder; read it with `read` or `stream`.
        progress: called after every chunk.
        mesh: whose devices train, each a chunk of its own. Weights are those of one
            device up to rounding; bytes are the same on equal meshes. Of many processes
            all call this alike, `out` on storage that they share.

    Returns:
        `out`, as a path.

    Raises:
        ValueError: if the data do not fit a network, before anything is written; if
            all networks of a bucket diverged; or if `out` (or its unfinished form) was
            made from another configuration, other data or another jax; says which.
        FileExistsError: if `out` holds something that is no zoo.
    """
    out = Path(out)
    data = checked_data(config, data)
    recipe = {"zoo": config.to_dict(), "data_sha256": digest_of_data(data)}
    if begun(out, recipe):
        return out
    partial = partial_of(out)
    report = _Reporter(config, progress)
    zoos, notes = {}, {}
    for number, (name, net_config) in enumerate(config.buckets):
        _train_bucket(config, data, number, name, partial, report, mesh)
        trained = _trained(config, number, name, partial)
        made, notes[name] = _gather(config, nets.build(net_config), name, trained)
        zoos[name] = replace(made, normal=normal_forms_together(made))
    wait_for_all()  # nobody reads chunks any more
    on_first(lambda: _finish(out, zoos, recipe, notes))
    return out


def _finish(
    out: Path, zoos: dict[str, Zoo], recipe: dict[str, Any], notes: dict[str, Any]
) -> None:
    store(out, zoos, config=recipe, notes=notes)
    sweep(out)


class _Trained(NamedTuple):
    """All networks of a bucket in the order of their numbers, diverged included."""

    hyper: dict[str, np.ndarray]
    vectors: np.ndarray
    labels: dict[str, np.ndarray]


class _Reporter:
    """Counts what is done, for all buckets together."""

    def __init__(
        self, config: ZooConfig, progress: Callable[[Progress], None] | None
    ) -> None:
        hypers = [draw_hyper(config, number) for number in range(len(config.buckets))]
        own = [
            hyper["step"][rows]
            for hyper in hypers
            for index, rows in enumerate(chunk_rows(config, hyper["step"]))
            if is_own(index)
        ]
        self.total = sum(len(steps) * int(steps.max()) for steps in own)
        self.num_networks = sum(map(len, own))
        self.networks = self.work = 0
        self.progress = progress

    def __call__(self, bucket: str, steps: np.ndarray, resumed: bool) -> None:
        self.networks += len(steps)
        self.work += len(steps) * int(steps.max())
        if self.progress is not None:
            self.progress(
                Progress(
                    bucket,
                    self.networks,
                    self.num_networks,
                    self.work,
                    self.total,
                    resumed,
                )
            )


def chunk_rows(config: ZooConfig, steps: np.ndarray) -> list[np.ndarray]:
    """Returns the networks of every chunk: those that stop together go together."""
    order = np.argsort(steps, kind="stable")
    return [
        order[start : start + config.chunk]
        for start in range(0, len(order), config.chunk)
    ]


def _train_bucket(
    config: ZooConfig,
    data: Data,
    number: int,
    name: str,
    partial: Path,
    report: _Reporter,
    mesh: Mesh | None,
) -> None:
    """Trains the chunks of a bucket that are not there, those of all processes."""
    net = nets.build(dict(config.buckets)[name])
    hyper = draw_hyper(config, number)
    size = len(data.train_y)
    seen = subsets(config, number, hyper, size)
    key = jax.random.fold_in(jax.random.key(config.seed), number)
    program = make_program(net, with_dropout=bool(hyper["dropout"].any()))
    workers = Workers(lambda shared, chunk: program(shared[0], chunk, shared[1]), mesh)
    waiting: list[tuple[Path, np.ndarray, Chunk]] = []

    def work() -> None:
        chunks = [chunk for _, _, chunk in waiting]
        found = workers((key, data), chunks, lambda x: x._replace(stop=np.int32(0)))
        for (path, rows, _), (thetas, measured) in zip(waiting, found, strict=True):
            part = {"theta": to_vectors(net.spec, thetas), **measured}
            save_part(path, {k: np.asarray(x)[: len(rows)] for k, x in part.items()})
            report(name, hyper["step"][rows], False)
        waiting.clear()

    for index, rows in enumerate(chunk_rows(config, hyper["step"])):
        path = _part_path(partial, name, index)
        shapes = _chunk_shapes(len(rows), net.spec.num_parameters)
        if not is_own(index):
            continue
        if load_part(path, shapes) is not None:
            report(name, hyper["step"][rows], True)
            continue
        # The last chunk is filled up, so that all have one shape.
        full = np.resize(rows, config.chunk)
        chunk = Chunk(
            rows=full.astype(np.int32),
            stop=np.int32(hyper["step"][rows].max()),
            order=minibatches(config, number, index, size),
            subset=seen[full],
            coefficients=coefficients({k: x[full] for k, x in hyper.items()}),
            factor=schedule(config),
        )
        waiting.append((path, rows, chunk))
        if len(waiting) == workers.count:
            work()
    if waiting:
        work()
    wait_for_all()


def _part_path(partial: Path, name: str, index: int) -> Path:
    return partial / f"{name}-{index:05d}.npz"


def _trained(config: ZooConfig, number: int, name: str, partial: Path) -> _Trained:
    """Reads the chunks of a bucket, those of all processes."""
    spec = nets.build(dict(config.buckets)[name]).spec
    hyper = draw_hyper(config, number)
    vectors = np.zeros((config.count, spec.num_parameters), np.float32)
    labels = {label: np.zeros(config.count, np.float32) for label in sorted(LABELS)}
    for index, rows in enumerate(chunk_rows(config, hyper["step"])):
        path = _part_path(partial, name, index)
        part = load_part(path, _chunk_shapes(len(rows), spec.num_parameters))
        if part is None:
            raise ValueError(
                f"{path}: expected the chunk that was just trained, found none that is "
                f"whole. Use storage that all processes share, and generate again."
            )
        vectors[rows] = part["theta"]
        for label in labels:
            labels[label][rows] = part[label]
    return _Trained(hyper, vectors, labels)


def _gather(
    config: ZooConfig, net: Network, name: str, trained: _Trained
) -> tuple[Zoo, dict[str, Any]]:
    """The networks that did not diverge, and how many did."""
    finite = np.isfinite(trained.vectors).all(axis=1)
    for column in trained.labels.values():
        finite &= np.isfinite(column)
    rows = np.flatnonzero(finite)
    if not len(rows):
        raise ValueError(
            f"zoo config, bucket {name!r}: all {config.count} networks diverged; lower "
            f"learning_rate (now {config.learning_rate}) or init_scale."
        )
    zoo = Zoo(
        network=net,
        thetas=from_vectors(net.spec, trained.vectors[rows]),
        labels={key: x[rows] for key, x in trained.labels.items()},
        hyper={key: x[rows] for key, x in trained.hyper.items()},
        split=split_networks(len(rows), config.split_seed),
        source=f"generated:{name}:seed={config.seed}",
        ids=np.array([f"{name}_{row:06d}" for row in rows]),
    )
    return zoo, {"trained": config.count, "diverged": config.count - len(rows)}


def _chunk_shapes(count: int, num_parameters: int) -> dict[str, tuple[int, ...]]:
    """Of the arrays of a finished chunk, float32, by name."""
    return {"theta": (count, num_parameters)} | {name: (count,) for name in LABELS}
