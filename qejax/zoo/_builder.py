"""The TFDS builder behind `store`: one record a network, ArrayRecord files.

Imported only where files are written: TFDS takes a second to import.
"""

import contextlib
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from qejax.zoo._normal import RECORD_FIELDS, columns
from qejax.zoo._zoo import SPLITS, Zoo

VERSION = "1.1.0"


def _feature(column: np.ndarray) -> Any:
    if column.dtype.kind == "U":
        return tfds.features.Text()
    # As bytes: a plain scalar feature keeps no more than 32 bits of a float.
    return tfds.features.Tensor(shape=(), dtype=column.dtype.type, encoding="bytes")


def _normal_features(zoo: Zoo) -> dict[str, Any]:
    return {
        RECORD_FIELDS[name]: tfds.features.Tensor(
            shape=(width,), dtype=dtype, encoding="bytes"
        )
        for name, (width, dtype) in columns(zoo.network.spec).items()
    }


@dataclass
class BucketConfig(tfds.core.BuilderConfig):
    """A bucket: its name, and the networks to write, with their normal forms."""

    zoo: Zoo | None = field(default=None, repr=False)


class QejaxZoo(tfds.core.GeneratorBasedBuilder):
    """Writes the networks of one bucket, in their order, one TFDS split per split."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(self, *, file_format: str = "array_record", **kwargs: Any) -> None:
        super().__init__(file_format=file_format, **kwargs)

    @property
    def _zoo(self) -> Zoo:
        zoo = getattr(self.builder_config, "zoo", None)
        assert zoo is not None
        return zoo

    def _info(self) -> tfds.core.DatasetInfo:
        zoo = self._zoo
        return tfds.core.DatasetInfo(
            builder=self,
            description="Trained networks: weights, labels and hyper-parameters.",
            features=tfds.features.FeaturesDict(
                {
                    "theta": tfds.features.Tensor(
                        shape=(zoo.network.spec.num_parameters,),
                        dtype=np.float32,
                        encoding="bytes",
                    ),
                    **_normal_features(zoo),
                    "row": tfds.features.Scalar(np.int64),
                    "id": tfds.features.Text(),
                    "labels": {name: _feature(x) for name, x in zoo.labels.items()},
                    "hyper": {name: _feature(x) for name, x in zoo.hyper.items()},
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        zoo = self._zoo
        present = [name for name in SPLITS if len(zoo.rows(name))]
        return {name: self._generate_examples(zoo.rows(name)) for name in present}

    def _generate_examples(self, rows: np.ndarray) -> Iterator[tuple[int, Any]]:
        zoo, vectors = self._zoo, self._zoo.vectors()
        normal = zoo.normal
        assert normal is not None
        for row in rows.tolist():
            yield (
                row,
                {
                    "theta": vectors[row],
                    **{
                        key: getattr(normal, name)[row]
                        for name, key in RECORD_FIELDS.items()
                    },
                    "row": row,
                    "id": str(zoo.ids[row]),
                    "labels": {name: x[row] for name, x in zoo.labels.items()},
                    "hyper": {name: x[row] for name, x in zoo.hyper.items()},
                },
            )


def write_bucket(root: Path, name: str, zoo: Zoo) -> Path:
    """Writes one bucket under `root`; returns the folder of its files.

    TFDS reports to standard output and warns about configurations made on the fly;
    both are kept quiet.
    """
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder = QejaxZoo(data_dir=root, config=BucketConfig(name=name, zoo=zoo))
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    finally:
        logging.set_verbosity(verbosity)
    shutil.rmtree(root / "downloads", ignore_errors=True)
    return Path(builder.data_dir)
