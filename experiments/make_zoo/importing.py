"""`make_zoo import`: a directory in a public format becomes a prepared zoo."""

import time
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from experiments.make_zoo.showing import print_table
from experiments.make_zoo.verbs import Import
from qejax import zoo

SHOWN = 3
"""Of the networks that were left out."""


def run(config: Import, console: Console) -> Path:
    """Imports; shows progress, then what the zoo holds and what was left out.

    Raises:
        ValueError: if an argument is missing or nothing can be imported; says why.
        FileNotFoundError: if the directory is not there.
    """
    address = zoo.formats.complete(config.address)
    if config.out == Path():
        raise ValueError("OUT: expected a folder for the prepared zoo, got none.")
    if config.memory < 1:
        raise ValueError(f"--memory: expected MiB from 1, got {config.memory}.")
    kind, _, folder = address.partition(":")
    found = zoo.formats.list_networks(address, **config.given())
    if config.mixed:
        found = zoo.joined(found)
    options = {name: _plain(value) for name, value in sorted(config.given().items())}
    recipe = {
        "import": {
            "format": kind,
            "directory": Path(folder).resolve().name,
            "options": options,
        }
    }
    start = time.perf_counter()
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        # No thread that draws: TFDS is imported below, and its lazy imports replace
        # `__import__` for a moment, which another thread must not meet.
        auto_refresh=False,
    )
    with bars:
        task = bars.add_task("importing", total=None, speed="")

        new = False

        def tell(report: zoo.ImportProgress) -> None:
            nonlocal new
            new = True
            seconds = time.perf_counter() - start
            speed = f"{report.networks / seconds:,.0f}/s, {report.left_out} left out"
            bars.update(
                task,
                completed=report.networks,
                total=report.num_networks,
                speed=speed,
                refresh=True,
            )

        root = zoo.import_zoo(
            found,
            config.out,
            recipe,
            files=zoo.formats.files_of(address),
            memory=config.memory << 20,
            progress=tell,
        )
    if not new:
        console.print(f"{root} is there already, of these files; nothing was written")
    show(root, console)
    return root


def _plain(value: Any) -> Any:
    """A value of JSON; of a path its name alone, which is the same on any machine."""
    return value.name if isinstance(value, Path) else value


def show(root: Path, console: Console) -> None:
    """Prints what a prepared zoo holds, and what was left out of it."""
    table = Table(box=box.SIMPLE)
    for heading in ("bucket", "networks", *zoo.SPLITS, "left out", "split", "SHA-256"):
        left = heading in ("bucket", "split", "SHA-256")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    problems = zoo.recipe(root).get("not_listed", {}).get("problems", [])
    unlisted = zoo.recipe(root).get("not_listed", {}).get("count", 0)
    for name in zoo.buckets(root):
        entry = zoo.notes(root, name)
        split = entry.get("split", {"protocol": "stored", "sha256": ""})
        problems = problems + entry.get("problems", [])
        table.add_row(
            name,
            f"{entry['count']:,}",
            *(f"{len(entry['splits'][part]):,}" for part in zoo.SPLITS),
            str(entry.get("left_out", 0)),
            split["protocol"],
            split["sha256"][:8],
        )
    print_table(console, table)
    if unlisted:
        console.print(f"{unlisted} more could not even be listed")
    for name, why in problems[:SHOWN]:
        console.print(f"left out: {name}: {why}", highlight=False, markup=False)
    if len(problems) > SHOWN:
        console.print(f"... {len(problems) - SHOWN} more are named in manifest.json")
    console.print(_next(root), highlight=False, markup=False)


FEW = 2
"""Networks of a split that a reader needs at least."""


def _next(root: Path) -> str:
    """What can be done with a zoo."""
    entries = {name: zoo.notes(root, name) for name in zoo.buckets(root)}
    mixed = [name for name, entry in entries.items() if "networks" in entry]
    if mixed:
        return (
            f"read it with zoo.stream_mixed({str(root)!r}, 'train', ...) and "
            f"models.MixedPredictor"
        )
    few = [
        name
        for name, entry in entries.items()
        if min(len(ids) for ids in entry["splits"].values()) < FEW
    ]
    if few:
        return (
            f"{len(few)} of {len(entries)} buckets have fewer than {FEW} networks in "
            f"a split, too few to train a reader of them alone: use --mixed for one "
            f"of all, or another --split-seed. Read the others with --zoo {root}"
        )
    return f"read it with --zoo {root}"
