"""Records of a prepared zoo by number, as stacked arrays.

TFDS says where the shards are and what is in them; the records are taken apart here,
since TFDS decodes all fields of each, one at a time.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qejax.zoo._normal import RECORD_FIELDS, WHICH

GROUPS = ("labels", "hyper")
"""Fields that hold columns by name."""

FIELDS = ("row", "id", "theta", WHICH, *RECORD_FIELDS.values(), *GROUPS)
"""Of a record."""


class Records:
    """The networks of one split, in the order in which they were stored.

    Args:
        root: of the zoo.
        entry: of the bucket in the manifest.
        split: a split that has networks.
    """

    def __init__(self, root: Path, entry: dict[str, Any], split: str) -> None:
        # TFDS takes a second to import.
        import tensorflow_datasets as tfds
        from array_record.python.array_record_data_source import ArrayRecordDataSource
        from tensorflow_datasets.proto import tf_example_pb2

        proto: Any = tf_example_pb2
        builder: Any = tfds.builder_from_directory(root / entry["folder"])
        info = builder.info.splits[split]
        # Readers of empty shards are refused.
        full = zip(info.filepaths, info.shard_lengths, strict=True)
        paths = [str(path) for path, length in full if length]
        self._source: Any = ArrayRecordDataSource(paths) if paths else []
        self._parse: Any = proto.Example.FromString
        self._fields = _described(builder.info.features)
        self._width = entry.get("width", 0)

    def __len__(self) -> int:
        """Returns the number of networks."""
        return len(self._source)

    def fetch(
        self, numbers: Sequence[int] | np.ndarray, fields: Sequence[str] = FIELDS
    ) -> dict[str, Any]:
        """Returns some records, stacked.

        Args:
            numbers: of the records, `n` of them, in any order.
            fields: of `FIELDS`; others are not looked at.

        Returns:
            By field `[n, ...]`; columns by name for `labels` and `hyper`. Weights of
            mixed architectures have zeros behind them.
        """
        places = [int(number) for number in numbers]
        read = self._source.__getitems__(places) if places else []
        maps = [self._parse(record).features.feature for record in read]
        found: dict[str, Any] = {name: {} for name in fields if name in GROUPS}
        for name, (dtype, shape) in self._fields.items():
            group, _, column = name.rpartition("/")
            if (group or name) not in fields:
                continue
            values = [_value(record[name], dtype) for record in maps]
            if dtype is None:
                stacked = np.array(values, str)
            elif None in shape:
                stacked = np.zeros((len(values), self._width), dtype)
                for row, value in zip(stacked, values, strict=True):
                    row[: len(value)] = value
            else:
                stacked = np.array(values, dtype).reshape(len(values), *shape)
            if group:
                found[group][column] = stacked
            else:
                found[name] = stacked
        return found


def _value(feature: Any, dtype: np.dtype | None) -> Any:
    if feature.int64_list.value:
        return np.int64(feature.int64_list.value[0])
    (data,) = feature.bytes_list.value
    if dtype is None:
        return data.decode()
    return np.frombuffer(data, dtype) if data else np.zeros(0, dtype)


def _described(
    features: Any,
) -> dict[str, tuple[np.dtype | None, tuple[Any, ...]]]:
    """Types and shapes of the fields by their path; `None` for text."""
    found: dict[str, tuple[np.dtype | None, tuple[Any, ...]]] = {}
    for name, feature in features.items():
        group = name in GROUPS
        for column, one in sorted(feature.items()) if group else (("", feature),):
            text = np.dtype(one.np_dtype).kind not in "biuf"
            path = f"{name}/{column}" if group else name
            found[path] = (None if text else np.dtype(one.np_dtype), tuple(one.shape))
    return found
