"""`python -m experiments.teleport [PRESET] [--field value ...]`."""

import sys
from collections.abc import Callable
from typing import Any

from experiments import command
from experiments.teleport.config import PRESETS, Config

MODULE = "experiments.teleport"
ABOUT = "Chooses the weights from which training goes on fastest."


def parse(args: list[str]) -> tuple[str, Config]:
    """Returns the preset's name and the config; see `command.parse`."""
    return command.parse(args, MODULE, ABOUT, PRESETS)


def _load() -> Callable[..., Any]:
    from experiments.teleport.run import run

    return run


def main() -> int:
    """Runs the experiment; returns the exit status."""
    return command.main(MODULE, ABOUT, PRESETS, _load)


if __name__ == "__main__":
    sys.exit(main())
