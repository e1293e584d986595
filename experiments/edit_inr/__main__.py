"""`python -m experiments.edit_inr [PRESET] [--field value ...]`."""

import sys
from collections.abc import Callable
from typing import Any

from experiments import command
from experiments.edit_inr.config import PRESETS, Config

MODULE = "experiments.edit_inr"
ABOUT = "Edits images by the weights of the networks that hold them."


def parse(args: list[str]) -> tuple[str, Config]:
    """Returns the preset's name and the config; see `command.parse`."""
    return command.parse(args, MODULE, ABOUT, PRESETS)


def _load() -> Callable[..., Any]:
    from experiments.edit_inr.run import run

    return run


def main() -> int:
    """Runs the experiment; returns the exit status."""
    return command.main(MODULE, ABOUT, PRESETS, _load)


if __name__ == "__main__":
    sys.exit(main())
