"""`python -m experiments.classify_inr [PRESET] [--field value ...]`."""

import sys
from collections.abc import Callable
from typing import Any

from experiments import command
from experiments.classify_inr.config import PRESETS, Config

MODULE = "experiments.classify_inr"
ABOUT = "Reads what signals show from the weights of networks fitted to them."


def parse(args: list[str]) -> tuple[str, Config]:
    """Returns the preset's name and the config; see `command.parse`."""
    return command.parse(args, MODULE, ABOUT, PRESETS)


def _load() -> Callable[..., Any]:
    from experiments.classify_inr.run import run

    return run


def main() -> int:
    """Runs the experiment; returns the exit status."""
    return command.main(MODULE, ABOUT, PRESETS, _load)


if __name__ == "__main__":
    sys.exit(main())
