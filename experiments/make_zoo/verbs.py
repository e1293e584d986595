"""What `make_zoo` does with zoos that are there: import, inspect, verify, export."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments.command import guarded

MODULE = "experiments.make_zoo"

Address = Annotated[str, tyro.conf.Positional]
Place = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class Options:
    """How a public zoo is listed; what a format does not have is refused.

    Attributes:
        protocol: how networks are split: `clean`, or a published way, see the README.
        split_seed: of a clean split.
        split_file: table that a published split needs.
        cut_off: classifiers of less test accuracy are left out before the split.
        checkpoint: which one of a training run, such as a step, an epoch, or `all`.
        copies: extra fits of an image to read, NFN SIREN.
        prefix: of the folders of fits, NFN SIREN.
        network: JSON file of a `NetConfig`, for files that do not say what they are.
        activation: of networks whose files do not say.
        part: of a checkpoint that holds several networks, such as `ema`.
    """

    protocol: str | None = None
    split_seed: int | None = None
    split_file: Path | None = None
    cut_off: float | None = None
    checkpoint: str | None = None
    copies: int | None = None
    prefix: str | None = None
    network: Path | None = None
    activation: str | None = None
    part: str | None = None

    def given(self) -> dict[str, Any]:
        """Returns what was given, by name."""
        names = [field.name for field in fields(Options)]
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Import(Options):
    """Makes a prepared zoo of a directory in a public format.

    Attributes:
        address: FORMAT:DIR, or DIR alone if one format fits.
        out: folder of the prepared zoo.
        mixed: makes one bucket of all architectures, which one metanetwork reads.
        memory: MiB for weights and what is made of them while they are read.
    """

    address: Address = ""
    out: Place = Path()
    mixed: bool = False
    memory: int = 256


@dataclass(frozen=True)
class Inspect(Options):
    """Shows what a directory holds, whatever is wrong with some of it.

    Attributes:
        address: a prepared zoo, FORMAT:DIR, or DIR alone if one format fits.
        picture: where the histograms are drawn.
        seconds: to read weights for; what is left then is not looked into.
    """

    address: Address = ""
    picture: Path = Path("runs/make_zoo/inspect.png")
    seconds: float = 10.0


@dataclass(frozen=True)
class Verify:
    """Checks every checksum of a prepared zoo, and accuracies where there are images.

    Attributes:
        zoo: the prepared zoo.
        images: `.npz` file of the images that accuracies were measured on (`image`,
            `label`) or that were fitted (`image`, `index`), or the name of a data set
            whose test split TFDS has prepared.
        tfds: folder of prepared TFDS data sets; `TFDS_DATA_DIR` by default.
        networks: accuracies of so many, evenly spread, are measured again; 0 for all.
        tolerance: largest difference that is right.
    """

    zoo: Place = Path()
    images: str | None = None
    tfds: Path | None = None
    networks: int = 0
    tolerance: float = 1e-3


@dataclass(frozen=True)
class Export:
    """Writes a prepared zoo in a public format.

    Attributes:
        zoo: the prepared zoo.
        address: FORMAT:DIR; the directory must not hold anything.
    """

    zoo: Place = Path()
    address: Address = ""


def _import(config: Import, console: Console) -> None:
    from experiments.make_zoo.importing import run

    run(config, console)


def _inspect(config: Inspect, console: Console) -> None:
    from experiments.make_zoo.inspecting import run

    run(config, console)


def _verify(config: Verify, console: Console) -> None:
    from experiments.make_zoo.verifying import run

    run(config, console)


def _export(config: Export, console: Console) -> None:
    from experiments.make_zoo.exporting import run

    run(config, console)


VERBS: dict[str, tuple[type, Callable[..., None]]] = {
    "import": (Import, _import),
    "inspect": (Inspect, _inspect),
    "verify": (Verify, _verify),
    "export": (Export, _export),
}
"""First words of the command line: the config, and what is done."""


def main(verb: str, args: list[str]) -> int:
    """Does what a verb says; returns the exit status.

    Args:
        verb: of `VERBS`.
        args: behind it.
    """
    kind, work = VERBS[verb]
    config = tyro.cli(kind, prog=f"python -m {MODULE} {verb}", args=args)
    line = shlex.join(["python", "-m", MODULE, verb, *args])
    # What is written shard by shard is shared; the rest one process does as well.
    together = verb == "import"
    return guarded(lambda console: work(config, console), line, together=together)
