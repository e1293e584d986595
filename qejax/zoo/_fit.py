"""Fitting coordinate networks to signals, chunk by chunk, resumable.

Like `generate`: while it is being made, a zoo lives in `OUT.partial`, and the same call
goes on where an interrupted one stopped.
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
from qejax.zoo._data import digest_of_data
from qejax.zoo._fit_config import FitConfig
from qejax.zoo._fit_many import fit_program
from qejax.zoo._normal_together import normal_forms_together
from qejax.zoo._parts import begun, load_part, partial_of, save_part, sweep
from qejax.zoo._splits import split_networks
from qejax.zoo._store import store
from qejax.zoo._workers import Workers, is_own
from qejax.zoo._zoo import Zoo, from_vectors, to_vectors

BUCKET = "fits"
ORDER = "copy * signals + signal"
"""The number of a fit, which decides its start. In the recipe of zoos of several copies
alone: those of one copy have the same numbers under every rule, and stay as they are.
"""


class Signals(NamedTuple):
    """What coordinate networks are fitted to.

    Attributes:
        values: `[S, *shape, channels]` in [0, 1]; a last axis of one may be missing.
        labels: `[S]` integers, what a signal shows.
        split: `[S]` codes of a split (0 train, 1 validation, 2 test), which all fits of
            a signal share; `None` for a random one.
    """

    values: Any
    labels: Any
    split: Any = None


class FitProgress(NamedTuple):
    """Where fitting stands; of many processes, the share of this one.

    Attributes:
        fits: done so far, those of an earlier call included.
        num_fits: in all.
        reached: of them, those that reached their PSNR.
        resumed: whether the last chunk was found on disk.
    """

    fits: int
    num_fits: int
    reached: int
    resumed: bool


def fit(
    config: FitConfig,
    signals: Signals,
    out: str | Path,
    progress: Callable[[FitProgress], None] | None = None,
    mesh: Mesh | None = None,
) -> Path:
    """Makes a zoo of fits in the folder `out`, or finds it there.

    Every fit starts from weights of its own. One seed decides every byte, on one kind
    of device and one version of jax; more copies leave the first ones as they were.

    Args:
        config: how networks are fitted.
        signals: what they are fitted to.
        out: the folder; read it with `read` or `stream`.
        progress: called after every chunk.
        mesh: as in `generate`.

    Returns:
        `out`. The labels of its only bucket, "fits", are `class` (of the signal),
        `psnr` (dB of the signal in [0, 1]) and `steps`; `hyper` are `signal` (its row)
        and `copy`. Its notes count fits that did not reach their PSNR (`short`; they
        are kept), that are not finite (`diverged`; dropped) and signals without any
        contrast (`constant`; kept), with the ids of the first of each.

    Raises:
        ValueError: if the signals do not fit the configuration, before anything is
            written; if all fits diverged; or if `out` was made otherwise; says how.
        FileExistsError: if `out` holds something that is no zoo.
    """
    out = Path(out)
    signals = checked_signals(config, signals)
    digest = digest_of_data([x for x in signals if x is not None])
    recipe: dict[str, Any] = {"fit": config.to_dict(), "data_sha256": digest}
    if config.copies > 1:
        recipe["order"] = ORDER
    if begun(out, recipe):
        return out
    partial = partial_of(out)
    _fit_chunks(config, signals, partial, progress, mesh)
    zoo, notes = _gathered(config, signals, _fits(config, signals, partial))

    zoo = replace(zoo, normal=normal_forms_together(zoo))

    def finish() -> None:
        store(out, {BUCKET: zoo}, config=recipe, notes={BUCKET: notes})
        sweep(out)

    wait_for_all()  # nobody reads chunks any more
    on_first(finish)
    return out


def checked_signals(config: FitConfig, signals: Signals) -> Signals:
    """Returns signals as float32 and int32 arrays, `values: [S, N, channels]`.

    Raises:
        ValueError: names the array, what was expected and found.
    """
    wants = (*config.shape, config.channels)
    values, labels = np.asarray(signals.values), np.asarray(signals.labels)
    count = len(values) if values.ndim else 0
    shapes = (wants, config.shape) if config.channels == 1 else (wants,)
    if not count or values.shape[1:] not in shapes:
        raise ValueError(
            f"signals.values: expected signals of shape {wants}, at least one, got an "
            f"array {values.shape}."
        )
    values = values.astype(np.float32).reshape(count, -1, config.channels)
    inside = (values >= 0) & (values <= 1)
    bad = np.flatnonzero(~inside.reshape(count, -1).all(axis=1))
    if len(bad):
        raise ValueError(
            f"signals.values: expected numbers in [0, 1], got others in row {bad[0]} "
            f"({len(bad)} such rows). Divide images of bytes by 255."
        )
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"signals.labels: expected one integer for each of {count} signals, got "
            f"{labels.dtype} of shape {labels.shape}."
        )
    split = signals.split
    if split is not None:
        split = np.asarray(split, np.int8)
        if split.shape != (count,) or not np.isin(split, (0, 1, 2)).all():
            raise ValueError(
                f"signals.split: expected a code 0, 1 or 2 for each of {count} "
                f"signals, got shape {split.shape} with the codes "
                f"{sorted(set(split.ravel().tolist()))}."
            )
    return Signals(values, labels.astype(np.int32), split)


class _Chunk(NamedTuple):
    """Fits that are made together: their numbers, and where they are kept."""

    rows: np.ndarray
    path: Path

    def load(self, config: FitConfig) -> dict[str, np.ndarray] | None:
        """Returns what was found of them, if it was."""
        size = nets.build(config.network()).spec.num_parameters
        shapes = dict.fromkeys(("psnr", "steps"), self.rows.shape)
        return load_part(self.path, {"theta": (len(self.rows), size), **shapes})


def _chunks(config: FitConfig, signals: Signals, partial: Path) -> list[_Chunk]:
    """All fits in the order of their numbers, `copy * len(signals) + signal`."""
    total = len(signals.values) * config.copies
    return [
        _Chunk(
            np.arange(start, min(start + config.chunk, total)),
            partial / f"{BUCKET}-{start // config.chunk:05d}.npz",
        )
        for start in range(0, total, config.chunk)
    ]


def _fit_chunks(
    config: FitConfig,
    signals: Signals,
    partial: Path,
    progress: Callable[[FitProgress], None] | None,
    mesh: Mesh | None,
) -> None:
    """Makes the fits that are not there, those of all processes."""
    net, program = nets.build(config.network()), fit_program(config)
    key = jax.random.key(config.seed)
    count = len(signals.values)
    workers = Workers(lambda key, piece: program(key, *piece), mesh)
    waiting: list[_Chunk] = []
    chunks = [
        chunk
        for number, chunk in enumerate(_chunks(config, signals, partial))
        if is_own(number)
    ]
    total = sum(len(chunk.rows) for chunk in chunks)
    done = reached = 0

    def tell(rows: np.ndarray, psnr: Any, resumed: bool) -> None:
        nonlocal done, reached
        done, reached = done + len(rows), reached + int(np.sum(psnr >= config.psnr))
        if progress is not None:
            progress(FitProgress(done, total, reached, resumed))

    def work() -> None:
        # The last chunk is filled up, so that all have one shape.
        full = [np.resize(c.rows, config.chunk).astype(np.int32) for c in waiting]
        pieces = [(rows, signals.values[rows % count]) for rows in full]
        for chunk, found in zip(
            waiting, workers(key, pieces, lambda x: x), strict=True
        ):
            size = len(chunk.rows)
            part = {
                "theta": to_vectors(net.spec, found.thetas)[:size],
                "psnr": found.psnr[:size],
                "steps": found.steps[:size].astype(np.float32),
            }
            save_part(chunk.path, part)
            tell(chunk.rows, part["psnr"], False)
        waiting.clear()

    for chunk in chunks:
        part = chunk.load(config)
        if part is not None:
            tell(chunk.rows, part["psnr"], True)
            continue
        waiting.append(chunk)
        if len(waiting) == workers.count:
            work()
    if waiting:
        work()
    wait_for_all()


def _fits(config: FitConfig, signals: Signals, partial: Path) -> dict[str, np.ndarray]:
    """All fits, the copies of a signal side by side: `theta`, `psnr`, `steps`."""
    parts: list[dict[str, np.ndarray]] = []
    for chunk in _chunks(config, signals, partial):
        part = chunk.load(config)
        if part is None:
            raise ValueError(
                f"{chunk.path}: expected the fits that were just made, found none that "
                f"are whole. Use storage that all processes share, and fit again."
            )
        parts.append(part)
    # From one copy after the other to one signal after the other.
    total = len(signals.values) * config.copies
    order = np.arange(total).reshape(config.copies, -1).T.ravel()
    return {name: np.concatenate([p[name] for p in parts])[order] for name in parts[0]}


def _gathered(
    config: FitConfig, signals: Signals, fits: dict[str, np.ndarray]
) -> tuple[Zoo, dict[str, Any]]:
    """The fits that are finite, and what there is to say of the others."""
    total = len(fits["psnr"])
    of = np.arange(total) // config.copies
    ids = np.array([f"{BUCKET}_{row:06d}" for row in range(total)])
    finite = np.isfinite(fits["theta"]).all(axis=1) & np.isfinite(fits["psnr"])
    if not finite.any():
        raise ValueError(
            f"fit config: all {total} fits diverged; lower learning_rate, now "
            f"{config.learning_rate}."
        )
    flat = np.ptp(signals.values, axis=1).max(axis=1) == 0
    split = signals.split
    if split is None:
        split = split_networks(len(signals.values), config.seed)
    short = finite & (fits["psnr"] < config.psnr)
    notes: dict[str, Any] = {"fits": total}
    for name, those in zip(CASES, (short, ~finite, flat[of]), strict=True):
        notes[name] = int(those.sum())
        notes[f"{name}_ids"] = ids[those][:MOST_IDS].tolist()
    rows = np.flatnonzero(finite)
    net = nets.build(config.network())
    zoo = Zoo(
        network=net,
        thetas=from_vectors(net.spec, fits["theta"][rows]),
        labels={
            "class": signals.labels[of[rows]].astype(np.float32),
            "psnr": fits["psnr"][rows],
            "steps": fits["steps"][rows],
        },
        hyper={"signal": of[rows], "copy": rows % config.copies},
        split=split[of[rows]],
        source=f"fitted:{config.convention}:seed={config.seed}",
        ids=ids[rows],
    )
    return zoo, notes


CASES = ("short", "diverged", "constant")
"""Of fits that a note counts and names: short of their PSNR, not finite and left out,
of a signal that is constant."""

MOST_IDS = 100
"""Of the fits that a note names."""
