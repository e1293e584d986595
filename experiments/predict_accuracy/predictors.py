"""Predictors of a run as folders, and accuracies of networks from them.

`predictors/ROW/BUCKET/seed_N` is one: a `models.Predictor` with, beside it, the scale
that turns its scores into accuracies. Any folder above them stands for all below.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from experiments.predict_accuracy.chunks import SIZE, UNOPTIMISED, chunked
from experiments.predict_accuracy.functions import functions_of, scorer
from experiments.predict_accuracy.metanets import heads
from experiments.predict_accuracy.objective import Scale
from experiments.predict_accuracy.readings import AT_ONCE
from experiments.predict_accuracy.train import Trained
from experiments.predict_accuracy.zoos import LABEL
from qejax import models, nets
from qejax._processes import is_first

PREDICTORS = "predictors"
"""Folder of a run."""

LINK = "link_"
"""Constants that no score depends on begin so."""

FINE = 4096
"""Points at which a scale becomes the link of a predictor."""


@dataclass(frozen=True)
class Reader:
    """Predictors of networks of one architecture.

    Attributes:
        network: the architecture.
        label: what is predicted.
        names: `S`, of the predictors.
        predict: from leaves `[B, ...]` to accuracies `[S, B]`.
    """

    network: nets.Network
    label: str
    names: tuple[str, ...]
    predict: Callable[[Any], np.ndarray]


def save_predictors(out: Path, row: str, trained: dict[str, Trained]) -> None:
    """Writes the predictors of a row, one folder for every bucket and seed.

    Args:
        out: of all rows.
        row: its name.
        trained: by bucket.
    """
    if not is_first():
        return
    for number, (bucket, one) in enumerate(trained.items()):
        plain = re.fullmatch(r"\w[\w.-]*", bucket)
        place = out / row / (bucket if plain else f"bucket_{number:04d}")
        for seed, scale in enumerate(one.scales):
            params = jax.tree.map(lambda p, s=seed: p[s], one.params)
            module = one.model.module(params)
            _finish(module, scale)
            models.save(
                module,
                place / f"seed_{seed}",
                notes={
                    "predicts": LABEL,
                    "row": row,
                    "bucket": bucket,
                    "scale": {"slope": scale.slope, "offset": scale.offset},
                },
                arrays={"normal": scale.normal, "accuracy": scale.accuracy},
                overwrite=True,
            )


def _finish(module: models.Predictor, scale: Scale) -> None:
    """Gives a predictor the probes that were read in training, and its own link."""
    if module.probes is not None:
        config = module.config
        module.probes.set_value(models.probe_inputs(config.shape, config.probes))
    z = np.linspace(scale.normal[0] - 1, scale.normal[-1] + 1, FINE)
    scores = (z - scale.offset) / scale.slope
    module.calibrate_link(scores, np.clip(scale(scores), 0, 1))


def read_predictors(place: Path, mesh: Mesh | None = None) -> list[Reader]:
    """Returns the predictors in a folder, one reader for every architecture.

    Args:
        place: of one predictor, or of several.
        mesh: whose devices read networks.

    Raises:
        ValueError: if there are none, one is damaged or of another experiment, or they
            are of several rows.
    """
    found_in = [path.parent for path in place.rglob("model.json")]
    # Names with a dot are drafts: what a killed run left of its saving.
    folders = sorted(one for one in found_in if not one.name.startswith("."))
    if not folders:
        raise ValueError(
            f"{place}: expected a folder of predictors, found no model.json in it. A "
            f"finished run has them in OUT/{PREDICTORS}/ROW."
        )
    rows: dict[str, None] = {}
    found: dict[nets.Network, dict[str, models.Saved]] = {}
    for folder in folders:
        saved = models.load_saved(folder)
        notes, network = saved.notes, getattr(saved.model, "network", None)
        known = notes.get("predicts") == LABEL and {"row", "scale"} <= set(notes)
        if network is None or not known:
            raise ValueError(
                f"{folder}: expected a predictor of {LABEL!r} as a run of this "
                f"experiment writes it, got a {type(saved.model).__name__} with notes "
                f"{sorted(notes)}."
            )
        rows[notes["row"]] = None
        name = folder.relative_to(place).as_posix()
        found.setdefault(network, {})[name] = saved
    if len(rows) > 1:
        raise ValueError(
            f"{place}: expected predictors of one row, got those of {list(rows)}. Give "
            f"the folder of one: {place / next(iter(rows))}."
        )
    return [_reader(network, group, mesh) for network, group in found.items()]


def _reader(
    network: nets.Network, group: dict[str, models.Saved], mesh: Mesh | None
) -> Reader:
    """Seeds of a run have the same constants: one program reads them all."""
    alike: dict[bytes, list[models.Saved]] = {}
    names: dict[bytes, list[str]] = {}
    for name, saved in group.items():
        key = _constants(saved.model)
        alike.setdefault(key, []).append(saved)
        names.setdefault(key, []).append(name)
    parts = [_predict(several, mesh) for several in alike.values()]
    return Reader(
        network,
        LABEL,
        tuple(name for several in names.values() for name in several),
        lambda thetas: np.concatenate([predict(thetas) for predict in parts]),
    )


def _constants(model: models.Predictor) -> bytes:
    state = nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))
    leaves = jax.tree_util.tree_leaves_with_path(state)
    kept = [x for path, x in leaves if LINK not in jax.tree_util.keystr(path)]
    return repr(model.config).encode() + b"".join(np.asarray(x).tobytes() for x in kept)


def _predict(
    several: Sequence[models.Saved], mesh: Mesh | None
) -> Callable[[Any], np.ndarray]:
    model = several[0].model
    # Few at a time where networks are run on probes: their activations are large.
    size = AT_ONCE if model.config.probes else SIZE
    measure = chunked(model.measure, size, UNOPTIMISED, mesh)
    functions = functions_of(model, measure, heads, mesh)
    scores = scorer(functions.scores, mesh)
    params = [nnx.to_pure_dict(nnx.state(s.model, nnx.Param)) for s in several]
    stacked = jax.tree.map(lambda *p: np.stack(p), *params)
    scales = [
        Scale(
            **s.notes["scale"], normal=s.arrays["normal"], accuracy=s.arrays["accuracy"]
        )
        for s in several
    ]

    def predict(thetas: Any) -> np.ndarray:
        raw = scores(stacked, functions.inputs(thetas))
        return np.stack([scale(row) for scale, row in zip(scales, raw, strict=True)])

    return predict
