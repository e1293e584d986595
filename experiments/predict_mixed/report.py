"""What a run shows at its end: the table."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.predict_mixed.table import lines

SHOWN = ("row", "tau", "tau within", "tau, unseen", "tau within, unseen")
"""Columns of the table in a terminal; the README shows all."""


def show(metrics: Mapping[str, Any], console: Console) -> None:
    """Prints the final table."""
    title = "Test networks, mean ± sd over seeds"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_edge=False)
    for heading in SHOWN:
        table.add_column(heading, justify="left" if heading == "row" else "right")
    for row in lines(metrics):
        table.add_row(*(row[heading] for heading in SHOWN))
    console.print(table)
