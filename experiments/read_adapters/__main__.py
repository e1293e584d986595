"""`python -m experiments.read_adapters [PRESET] [--field value ...]`."""

import sys
from collections.abc import Callable
from typing import Any

from experiments import command
from experiments.read_adapters.config import PRESETS, Config

MODULE = "experiments.read_adapters"
ABOUT = "Reads tasks and accuracies of adapters from their weights."


def parse(args: list[str]) -> tuple[str, Config]:
    """Returns the preset's name and the config; see `command.parse`."""
    return command.parse(args, MODULE, ABOUT, PRESETS)


def _load() -> Callable[..., Any]:
    from experiments.read_adapters.run import run

    return run


def main() -> int:
    """Runs the experiment; returns the exit status."""
    return command.main(MODULE, ABOUT, PRESETS, _load)


if __name__ == "__main__":
    sys.exit(main())
