"""`make_zoo export`: a prepared zoo becomes a directory in a public format."""

from pathlib import Path

from rich.console import Console

from experiments.make_zoo.verbs import Export
from qejax import zoo


def run(config: Export, console: Console) -> Path:
    """Writes the directory, whole or not at all.

    Raises:
        ValueError: if an argument is missing, the zoo is damaged, or the format does
            not hold its networks; says why.
        FileNotFoundError: if the zoo is not there.
        FileExistsError: if the directory holds anything.
    """
    if config.zoo == Path():
        raise ValueError("ZOO: expected the folder of a prepared zoo, got none.")
    if not config.address:
        raise ValueError(
            f"expected FORMAT:DIR behind {config.zoo}, what to write and where, got "
            f"none. Give for example safetensors:DIR."
        )
    found = zoo.list_prepared(config.zoo)
    directory = zoo.formats.export(found, config.address)
    count = sum(map(len, found.listings.values()))
    console.print(f"{count:,} networks in {directory}", highlight=False)
    return directory
