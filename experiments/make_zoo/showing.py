"""What several verbs show alike."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def print_table(console: Console, table: Table) -> None:
    """Prints a table as wide as it is: a narrow terminal breaks it, nothing is cut."""
    wide = console.options.update(max_width=10_000)
    width = console.measure(table, options=wide).maximum
    # A console prints nothing wider than itself.
    Console(file=console.file, width=max(width, console.width)).print(table)


def few(names: Sequence[str], most: int) -> str:
    """Returns the first names, and how many more there are.

    Example:
        >>> few(["a", "b", "c", "d"], 2)
        'a, b and 2 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
