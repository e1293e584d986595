"""Writing a zoo to disk, all or nothing.

A prepared zoo is a folder:

    manifest.json                       what is in it, see `store`
    qejax_zoo/BUCKET/1.1.0/             one prepared TFDS data set per bucket

A bucket holds networks of one architecture, or of mixed ones; its TFDS splits are
`train`, `val` and `test`, records in the order of the zoo, files ArrayRecord, bytes the
same wherever the same networks are stored. A record holds the weights
(`theta`), their normal form (`normal`, `log_norm`, `statistics`; see `normal_forms`),
`row`, `id`, `labels` and `hyper`; where architectures are mixed, `which` of them, and
`theta`, `normal` and the statistics of `layers` are as long as it is (see
`mixed_normal_forms`). TFDS alone can read it:
`tfds.builder("qejax_zoo/BUCKET", data_dir=FOLDER)`.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qejax import nets, spaces
from qejax.nets import size_of
from qejax.spaces import WeightSpec
from qejax.zoo._config import check_bucket_name
from qejax.zoo._listing import Listing, listed
from qejax.zoo._manifest import MANIFEST, MIXED, sha256, versions, write_manifest
from qejax.zoo._mixed_normal import LAYERS, widths
from qejax.zoo._normal import RECORD_FIELDS, columns, normal_forms
from qejax.zoo._shards import Part, Written, parts_of, read_at_once, write_part
from qejax.zoo._zoo import SPLITS, Zoo

if TYPE_CHECKING:
    from qejax.zoo._records import Bucket

CHECKED = 8
"""Networks of a bucket whose given normal form is compared with their weights."""

MEMORY = 1 << 28
"""Bytes for the weights that are being written, and all that is made of them."""

DESCRIPTIONS = ("dataset_info.json", "features.json")
"""Files of a bucket beside its shards."""


def store(
    root: str | Path,
    zoos: Mapping[str, Zoo],
    *,
    config: dict[str, Any] | None = None,
    notes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Writes zoos to a new folder, one bucket each, with normal forms and a manifest.

    Normal forms are computed for the zoos that have none, and checked on some networks
    for those that have.

    The folder appears whole or not at all: everything is written beside it first and
    renamed at the end.

    Args:
        root: the folder; it must not exist, or be empty.
        zoos: by bucket name.
        config: how the networks were made, of JSON types.
        notes: by bucket name, further fields of its entry in the manifest.

    Returns:
        `root`. Its `manifest.json` has `config`, `versions` of what wrote it, and for
        every bucket: `network` (see `nets.build`), `count`, `source`, `splits` (the
        ids of each split by name), `normal_form` (names of the entries of `log_norm`
        and `statistics`, and dtypes) and `shards` (SHA-256 of every file by path). Its
        `sha256` is that of all other fields as canonical JSON: sorted keys, no spaces.

    Raises:
        FileExistsError: if the folder holds anything.
        ValueError: if there is no bucket or its name is no word, a network is none of
            `qejax.nets`, a weight or a label is not finite, an accuracy is not in
            [0, 1], ids repeat, or normal forms are those of other weights.
    """
    root = Path(root)
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(
            f"{root}: expected a new or empty folder for a zoo, found "
            f"{sorted(path.name for path in root.iterdir())[:4]}."
        )
    if not zoos:
        raise ValueError(f"{root}: expected at least one bucket to store, got none.")
    for name, zoo in zoos.items():
        check_bucket_name(name, f"{root}, buckets")
        _check_network(zoo.network, f"bucket {name!r}")
        check_networks(zoo, f"bucket {name!r}")
    draft = root.with_name(f"{root.name}.draft-{os.getpid()}")
    draft.mkdir(parents=True)
    try:
        buckets = {}
        for name, zoo in zoos.items():
            listing = listed(_checked_normal(zoo, f"bucket {name!r}"))
            entry = write_bucket(draft, name, listing)
            buckets[name] = entry | dict((notes or {}).get(name, {}))
        write_manifest(
            draft, {"config": config, "versions": versions(), "buckets": buckets}
        )
        os.replace(draft, root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    assert (root / MANIFEST).is_file()
    return root


def _check_network(network: Any, what: str) -> None:
    """Raises unless reading can build the network again from its configuration."""
    config = getattr(network, "config", None)
    known = isinstance(config, nets.NetConfig)
    if not known or nets.build(config.to_dict()).spec != network.spec:
        other = (
            f"a spec that is not that of {config}"
            if known
            else repr(type(network).__name__)
        )
        raise ValueError(
            f"{what}: zoos on disk hold networks of `qejax.nets`, built again from "
            f"their configuration when they are read, got {other}. For other models "
            f"keep the stacked parameters, and read them with "
            f"`models.Predictor(spec, ...)` and `jax.vmap`."
        )


def _checked_normal(zoo: Zoo, what: str) -> Zoo:
    """The zoo; normal forms that are there are checked on some networks."""
    if zoo.normal is None:
        return zoo
    rows = np.unique(np.linspace(0, len(zoo) - 1, CHECKED).astype(int))[: len(zoo)]
    spec = zoo.network.spec
    expected = normal_forms(spec, zoo.take(rows).thetas).statistics
    got = zoo.normal.statistics[rows]
    other = ~np.isclose(got, expected, rtol=1e-6, atol=1e-6).all(axis=1)
    if other.any():
        raise ValueError(
            f"{what}: normal forms should be those of the weights, got statistics that "
            f"differ by {np.abs(got - expected).max():.1e} for network "
            f"'{zoo.ids[rows[other][0]]}'. Leave them out (normal=None) to have them "
            f"computed."
        )
    return zoo


def write_bucket(root: Path, name: str, listing: Listing) -> dict[str, Any]:
    """Writes the shards of a bucket of whole networks; returns its manifest entry."""
    # TFDS takes a second to import, and only writing needs it.
    from qejax.zoo._records import Bucket

    spec = None if listing.mixed else listing.network.spec
    bucket = Bucket(root, name, spec, listing.labels, listing.hyper)
    at_once = read_at_once(listing, MEMORY)
    written = [
        (part, write_part(bucket, listing, part, at_once)[1])
        for part in parts_of(listing)
    ]
    return describe_bucket(root, bucket, listing, written)


def describe_bucket(
    root: Path,
    bucket: "Bucket",
    listing: Listing,
    written: Sequence[tuple[Part, Written]],
) -> dict[str, Any]:
    """Writes what TFDS needs to read a bucket; returns its entry in the manifest."""
    shards: dict[str, list[tuple[int, int]]] = {}
    splits: dict[str, list[str]] = {name: [] for name in SPLITS}
    digests: dict[str, str] = {}
    for part, one in written:
        shards.setdefault(part.split, []).append((len(one.ids), one.size))
        splits[part.split] += one.ids
        path = bucket.shard(part.split, part.number, part.of)
        digests[path.relative_to(root).as_posix()] = one.sha256
    bucket.describe(shards)
    for name in DESCRIPTIONS:
        path = bucket.folder / name
        digests[path.relative_to(root).as_posix()] = sha256(path)
    return {
        **_networks(listing, splits),
        "count": sum(map(len, splits.values())),
        "source": listing.source,
        "folder": bucket.folder.relative_to(root).as_posix(),
        "normal_form": _mixed_entry()
        if listing.mixed
        else _normal_entry(listing.network.spec),
        "splits": splits,
        "shards": dict(sorted(digests.items())),
    }


def _networks(listing: Listing, splits: Mapping[str, list[str]]) -> dict[str, Any]:
    """The architecture of a bucket, or all that are mixed in it."""
    if not listing.mixed:
        return {"network": listing.network.config.to_dict()}
    which = dict(zip(listing.ids.tolist(), listing.places.tolist(), strict=True))
    return {
        "network": {"kind": MIXED},
        "networks": [network.config.to_dict() for network in listing.networks],
        "which": {name: [which[one] for one in ids] for name, ids in splits.items()},
        "width": listing.width,
        "layers": widths()[0] * max(size_of(net).layers for net in listing.networks),
    }


def _mixed_entry() -> dict[str, Any]:
    """What the normal form of mixed architectures is; names have no entry of theirs."""
    per_layer, of_network = widths()
    return {
        "kind": "chain",
        "statistics": of_network,
        "layer_statistics": per_layer,
        "dtype": {
            RECORD_FIELDS["vectors"]: "float32",
            RECORD_FIELDS["statistics"]: "float64",
            LAYERS: "float64",
        },
    }


def _normal_entry(spec: WeightSpec) -> dict[str, Any]:
    """What the normal form of a network is, in the manifest."""
    dtypes = {
        RECORD_FIELDS[name]: np.dtype(dtype).name
        for name, (_, dtype) in columns(spec).items()
    }
    return {
        "log_norm": list(spaces.log_norm_paths(spec)),
        "statistics": list(spaces.statistic_names(spec)),
        "dtype": dtypes,
    }


def check_networks(zoo: Zoo, what: str) -> None:
    """Raises unless weights and labels are finite, accuracies in [0, 1], ids unique.

    Args:
        zoo: the networks.
        what: what they are, for the message.

    Raises:
        ValueError: names the network or the field, expected and found.
    """
    if len(set(zoo.ids.tolist())) != len(zoo):
        names, counts = np.unique(zoo.ids, return_counts=True)
        raise ValueError(
            f"{what}: ids should be unique, got '{names[counts > 1][0]}' "
            f"{counts.max()} times."
        )
    columns = {"weights": zoo.vectors()}
    columns |= {f"label {name!r}": x[:, None] for name, x in zoo.labels.items()}
    for name, column in columns.items():
        bad = np.flatnonzero(~np.isfinite(column).all(axis=1))
        if len(bad):
            raise ValueError(
                f"{what}: {name} should be finite, got a value that is not for "
                f"network '{zoo.ids[bad[0]]}' (row {bad[0]}; {len(bad)} such rows). "
                f"Drop it first, with Zoo.take."
            )
    for name, x in zoo.labels.items():
        bad = np.flatnonzero((x < 0) | (x > 1))
        if name.endswith("accuracy") and len(bad):
            raise ValueError(
                f"{what}: label {name!r} should be in [0, 1], got {x[bad[0]]} for "
                f"network '{zoo.ids[bad[0]]}' (row {bad[0]}; {len(bad)} such rows). "
                f"Give the share of points, not per cent."
            )
