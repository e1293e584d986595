"""The table at the end of a run, as a terminal shows it."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table


def print_table(
    title: str, rows: Sequence[Mapping[str, str]], console: Console
) -> None:
    """Prints rows of strings, keys as headings, the first column to the left."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_edge=False)
    for number, heading in enumerate(rows[0]):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
