"""Do public zoos come in, do what is recorded of them, and go out again?

Every directory is imported, its checksums are compared, what its networks do is
measured again on the images that it was scored on or fitted to, and it is exported in
its own format and in safetensors and read from both: weights and labels have to be the
same bits.

`python -m benchmarks.public_zoos --data DIR [--work DIR]`: `DIR/zoos` and `DIR/tfds`.
"""

import argparse
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks import harness
from experiments.make_zoo import exporting, importing, verbs, verifying
from qejax import zoo


@dataclass(frozen=True)
class Place:
    """A public zoo.

    Attributes:
        format: of the directory.
        folder: below `zoos`.
        images: file below `zoos`, or the name of a TFDS data set.
        tolerance: mean error that is right, of accuracies or of signals.
    """

    format: str
    folder: str
    images: str
    tolerance: float


PLACES = (
    Place("small_cnn_zoo", "small_cnn_zoo/cifar10_gs_relu", "cifar10", 1e-3),
    Place(
        "small_transformer_zoo",
        "small_transformer_zoo",
        "mnist_test_first_1000.npz",
        0.0,
    ),
    Place("nfn_siren", "nfn_siren", "mnist_train_by_index.npz", 1e-4),
    Place("dws_inr", "dws_inr", "mnist_train_by_index.npz", 1e-4),
)


def measure(place: Place, data: Path, work: Path, console: Console) -> harness.Record:
    """Imports, verifies and exports one zoo; returns what was seen."""
    name = f"{place.format}:{data / 'zoos' / place.folder}"
    out = work / place.format
    start = time.perf_counter()
    importing.run(verbs.Import(address=name, out=out), console)
    seconds = {"import": time.perf_counter() - start}
    file = data / "zoos" / place.images
    images = str(file) if file.is_file() else place.images
    start = time.perf_counter()
    found = verifying.run(
        verbs.Verify(zoo=out, images=images, tfds=data / "tfds"), console
    )
    seconds["verify"] = time.perf_counter() - start
    for bucket, one in found.items():
        assert one.mean_error <= place.tolerance, f"{name}, {bucket}: {one}"
    formats = {}
    for kind in (place.format, "safetensors"):
        start = time.perf_counter()
        address = f"{kind}:{work / f'{place.format}_as_{kind}'}"
        exporting.run(verbs.Export(zoo=out, address=address), console)
        seconds[f"export as {kind}"] = time.perf_counter() - start
        formats[kind] = same(zoo.read_all(out), zoo.formats.load(address))
    return {
        "networks": {bucket: one.networks for bucket, one in found.items()},
        "mean_error": {bucket: one.mean_error for bucket, one in found.items()},
        "max_error": {bucket: one.max_error for bucket, one in found.items()},
        "without_error": {bucket: one.exact for bucket, one in found.items()},
        "exported_and_the_same": formats,
        "seconds": seconds,
    }


def same(one: Mapping[str, zoo.Zoo], other: Mapping[str, zoo.Zoo]) -> bool:
    """Returns whether two readings hold the same networks and labels, in any order."""
    first, second = (_sorted(zoos) for zoos in (one, other))
    return all(
        np.array_equal(a.vectors(), b.vectors())
        and all(np.array_equal(a.labels[name], b.labels[name]) for name in a.labels)
        for a, b in zip(first, second, strict=True)
    )


def _sorted(zoos: Mapping[str, zoo.Zoo]) -> list[zoo.Zoo]:
    ordered = sorted(zoos.values(), key=lambda one: str(one.network.config))
    return [one.take(np.argsort(one.ids)) for one in ordered]


def main() -> None:
    """Measures all places and writes the JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/public_zoos"))
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    console = Console(width=120)
    found = {
        place.format: measure(place, args.data, args.work, console) for place in PLACES
    }
    harness.save("public_zoos", {"stamp": harness.stamp(), "zoos": found})


if __name__ == "__main__":
    main()
