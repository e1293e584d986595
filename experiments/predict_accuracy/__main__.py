"""`python -m experiments.predict_accuracy [PRESET] [--field value ...]`.

Or `python -m experiments.predict_accuracy score PREDICTOR ZOO`; see `verbs`.
"""

import itertools
import sys
from collections.abc import Callable
from typing import Any

from experiments import command
from experiments.predict_accuracy import verbs
from experiments.predict_accuracy.config import PRESETS, Config

MODULE = "experiments.predict_accuracy"
ABOUT = "Predicts test accuracies of networks from their weights."


def parse(args: list[str]) -> tuple[str, Config]:
    """Returns the preset's name and the config; see `command.parse`.

    Without a preset, `--zoo FORMAT:DIR` takes the preset of that format, and
    everything else the first preset.
    """
    return command.parse(args, MODULE, ABOUT, PRESETS, _of_zoo(args))


def _of_zoo(args: list[str]) -> str:
    """The preset of the format of `--zoo`, if there is one."""
    words = [word for arg in args for word in arg.split("=", 1)]
    for flag, value in itertools.pairwise(words):
        if flag == "--zoo" and value.split(":")[0] in PRESETS:
            return value.split(":")[0]
    return ""


def _load() -> Callable[..., Any]:
    from experiments.predict_accuracy.run import run

    return run


def main() -> int:
    """Runs the experiment, or does what a verb says; returns the exit status."""
    if sys.argv[1:2] and sys.argv[1] in verbs.VERBS:
        return verbs.main(sys.argv[1], sys.argv[2:])
    return command.main(MODULE, ABOUT, PRESETS, _load, default=_of_zoo(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
