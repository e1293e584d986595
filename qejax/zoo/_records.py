"""Networks as ArrayRecord shards that TFDS reads, with bytes that depend on them alone.

A shard is written network by network, so that memory holds no more than one reading of
it. TFDS itself would write all shards of a split in one call, and the fields of a
record in an order that differs between processes.

Imported only where files are written: TFDS takes a second to import.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from qejax._disk import room
from qejax.spaces import WeightSpec
from qejax.zoo._mixed_normal import LAYERS, widths
from qejax.zoo._normal import RECORD_FIELDS, WHICH, columns

DATASET, VERSION = "qejax_zoo", "1.1.0"
OPTIONS = "group_size:1,uncompressed"
"""Of a shard: trained weights hardly compress, and are read faster plain."""


def _feature(column: np.ndarray) -> Any:
    if column.dtype.kind == "U":
        return tfds.features.Text()
    # As bytes: a plain scalar feature keeps no more than 32 bits of a float.
    return tfds.features.Tensor(shape=(), dtype=column.dtype.type, encoding="bytes")


def _vector(width: int | None, dtype: Any) -> Any:
    return tfds.features.Tensor(shape=(width,), dtype=dtype, encoding="bytes")


def _weights(spec: WeightSpec | None) -> dict[str, Any]:
    """The weights and their normal form, and of mixed ones the architecture."""
    if spec is None:
        return {
            "theta": _vector(None, np.float32),
            WHICH: tfds.features.Scalar(np.int64),
            RECORD_FIELDS["vectors"]: _vector(None, np.float32),
            RECORD_FIELDS["statistics"]: _vector(widths()[1], np.float64),
            LAYERS: _vector(None, np.float64),
        }
    return {
        "theta": _vector(spec.num_parameters, np.float32),
        **{
            RECORD_FIELDS[key]: _vector(width, dtype)
            for key, (width, dtype) in columns(spec).items()
        },
    }


class Bucket:
    """The folder of a bucket: what its records hold, and the names of its shards.

    Args:
        root: of the zoo.
        name: of the bucket.
        spec: of the networks; `None` if their architectures are mixed.
        labels: columns, for their types.
        hyper: likewise.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        spec: WeightSpec | None,
        labels: Mapping[str, np.ndarray],
        hyper: Mapping[str, np.ndarray],
    ) -> None:
        self.folder = root / DATASET / name / VERSION
        self.features = tfds.features.FeaturesDict(
            {
                **_weights(spec),
                "row": tfds.features.Scalar(np.int64),
                "id": tfds.features.Text(),
                "labels": {key: _feature(x) for key, x in labels.items()},
                "hyper": {key: _feature(x) for key, x in hyper.items()},
            }
        )
        specs: Any = self.features.get_serialized_info()
        self._serializer = ExampleSerializer(specs)

    def _template(self, split: str) -> Any:
        folder: Any = self.folder
        return tfds.core.ShardedFileTemplate(
            data_dir=folder,
            dataset_name=DATASET,
            split=split,
            filetype_suffix="array_record",
        )

    def shard(self, split: str, number: int, of: int) -> Path:
        """Returns the path of a shard."""
        template = self._template(split)
        return Path(template.sharded_filepath(shard_index=number, num_shards=of))

    def write(self, path: Path, records: Iterable[Mapping[str, Any]]) -> int:
        """Writes a shard, whole or not at all; returns the bytes of its records.

        Raises:
            DiskFullError: if there is no room for it.
        """
        with room(path):
            return self._write(path, records)

    def _write(self, path: Path, records: Iterable[Mapping[str, Any]]) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.draft-{os.getpid()}")
        writer, total = ArrayRecordWriter(str(draft), OPTIONS), 0
        try:
            for record in records:
                example = self._serializer.get_tf_example(
                    self.features.encode_example(record)
                )
                # Otherwise in the order of a hash that every process draws anew.
                data = example.SerializeToString(deterministic=True)
                writer.write(data)
                total += len(data)
            writer.close()
            os.replace(draft, path)
        finally:
            if writer.is_open():
                writer.close()
            draft.unlink(missing_ok=True)
        return total

    def describe(self, shards: Mapping[str, list[tuple[int, int]]]) -> None:
        """Writes what TFDS needs to read the shards.

        Args:
            shards: by split, networks and bytes of records of each shard.
        """
        with room(self.folder):
            tfds.folder_dataset.write_metadata(
                data_dir=self.folder,
                features=self.features,
                split_infos=[
                    tfds.core.SplitInfo(
                        name=split,
                        shard_lengths=[count for count, _ in parts],
                        num_bytes=sum(size for _, size in parts),
                        filename_template=self._template(split),
                    )
                    for split, parts in shards.items()
                ],
                version=VERSION,
                check_data=False,
                description="Trained networks: weights, labels and hyper-parameters.",
                disable_shuffling=True,
            )
