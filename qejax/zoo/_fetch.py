"""Records of a prepared zoo by number, as stacked arrays.

TFDS says where the shards are and what is in them; the records are taken apart here,
since TFDS decodes all fields of each, one at a time.
"""

import json
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from qejax.zoo._manifest import AGAIN
from qejax.zoo._mixed_normal import LAYERS
from qejax.zoo._normal import RECORD_FIELDS, WHICH

GROUPS = ("labels", "hyper")
"""Fields that hold columns by name."""

FIELDS = ("row", "id", "theta", WHICH, *RECORD_FIELDS.values(), LAYERS, *GROUPS)
"""Of a record."""


FEATURES, CLASS = "features.json", "pythonClassName"

CLASSES = tuple(
    f"tensorflow_datasets.core.features.{name}"
    for name in (
        "features_dict.FeaturesDict",
        "scalar.Scalar",
        "tensor_feature.Tensor",
        "text_feature.Text",
    )
)
"""Of features in a zoo, as TFDS writes them down."""


class Records:
    """The networks of one split, in the order in which they were stored.

    Args:
        root: of the zoo.
        entry: of the bucket in the manifest.
        split: a split that has networks.
        without: shards that are left out, paths below `root`.

    Raises:
        ValueError: if what TFDS reads is not as it was written; names the folder.
    """

    def __init__(
        self,
        root: Path,
        entry: dict[str, Any],
        split: str,
        without: Container[str] = (),
    ) -> None:
        # TFDS takes a second to import.
        import tensorflow_datasets as tfds
        from array_record.python.array_record_data_source import ArrayRecordDataSource
        from tensorflow_datasets.proto import tf_example_pb2

        proto: Any = tf_example_pb2
        self._parse: Any = proto.Example.FromString
        self._width = entry.get("width", 0)
        self._widths = {LAYERS: entry.get("layers", 0)}
        self._what = f"{root / entry['folder']}, split {split!r}"
        check_features(root / entry["folder"] / FEATURES)
        with self._named():
            builder: Any = tfds.builder_from_directory(root / entry["folder"])
            info = builder.info.splits[split]
            # Readers of empty shards are refused.
            full = zip(info.filepaths, info.shard_lengths, strict=True)
            paths = [
                str(path)
                for path, length in full
                if length and f"{entry['folder']}/{Path(path).name}" not in without
            ]
            self._source: Any = ArrayRecordDataSource(paths) if paths else []
            self._fields = _described(builder.info.features)
            self._count = len(self._source)

    def __len__(self) -> int:
        """Returns the number of networks."""
        return self._count

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Whatever other libraries raise says where, and what to do."""
        try:
            yield
        except Exception as error:
            raise ValueError(
                f"{self._what}: expected records as they were written, got one that "
                f"cannot be read ({type(error).__name__}: {str(error)[:200]}). {AGAIN}"
            ) from error

    def fetch(
        self, numbers: Sequence[int] | np.ndarray, fields: Sequence[str] = FIELDS
    ) -> dict[str, Any]:
        """Returns some records, stacked.

        Args:
            numbers: of the records, `n` of them, in any order.
            fields: of `FIELDS`; others are not looked at.

        Returns:
            By field `[n, ...]`; columns by name for `labels` and `hyper`. What is
            as long as the architecture asks for has zeros behind it.

        Raises:
            ValueError: if a record cannot be read; names the folder and the split.
        """
        with self._named():
            return self._fetch(numbers, fields)

    def _fetch(
        self, numbers: Sequence[int] | np.ndarray, fields: Sequence[str]
    ) -> dict[str, Any]:
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
                width = self._widths.get(name, self._width)
                stacked = np.zeros((len(values), width), dtype)
                for row, value in zip(stacked, values, strict=True):
                    row[: len(value)] = value
            else:
                stacked = np.array(values, dtype).reshape(len(values), *shape)
            if group:
                found[group][column] = stacked
            else:
                found[name] = stacked
        return found


def check_features(path: Path) -> None:
    """Raises unless all features are of the few kinds that zoos have.

    TFDS imports the class that the file names, whatever it is.

    Raises:
        ValueError: if the file cannot be read or names another class.
    """
    try:
        waiting: list[Any] = [json.loads(path.read_text())]
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected the features of records in JSON, got {error}. {AGAIN}"
        ) from error
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        if not isinstance(one, dict):
            continue
        waiting += one.values()
        kind = one.get(CLASS, CLASSES[0])
        if kind not in CLASSES:
            raise ValueError(
                f"{path}: features should be of the classes {list(CLASSES)}, got "
                f"{str(kind)[:80]!r}, which was not imported. {AGAIN}"
            )


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
