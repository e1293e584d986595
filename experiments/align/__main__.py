"""`python -m experiments.align [PRESET] [--field value ...]`."""

import sys
from collections.abc import Callable
from typing import Any

from experiments import command
from experiments.align.config import PRESETS, Config

MODULE = "experiments.align"
ABOUT = "Aligns networks that were trained apart, and measures what lies between."


def parse(args: list[str]) -> tuple[str, Config]:
    """Returns the preset's name and the config; see `command.parse`."""
    return command.parse(args, MODULE, ABOUT, PRESETS)


def _load() -> Callable[..., Any]:
    from experiments.align.run import run

    return run


def main() -> int:
    """Runs the experiment; returns the exit status."""
    return command.main(MODULE, ABOUT, PRESETS, _load)


if __name__ == "__main__":
    sys.exit(main())
