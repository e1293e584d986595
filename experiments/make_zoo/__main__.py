"""`python -m experiments.make_zoo [--task TASK] [PRESET] [--field value ...]`.

Or `python -m experiments.make_zoo VERB ...`, with zoos that are there; see `verbs`.
"""

import sys
from collections.abc import Callable
from typing import Any

from experiments import command
from experiments.make_zoo import verbs
from experiments.make_zoo.config import PRESETS, Config
from experiments.make_zoo.inr_config import INR_PRESETS, InrConfig

MODULE = "experiments.make_zoo"

TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "classifier": (
        "Trains a zoo of transformers; `--task inr` fits coordinate networks.",
        PRESETS,
    ),
    "inr": (
        "Fits a zoo of coordinate networks; `--task classifier` trains transformers.",
        INR_PRESETS,
    ),
}
"""What `--task` may be: what it does, and its presets. The first is the default."""


def parse(args: list[str]) -> tuple[str, Config | InrConfig]:
    """Returns the preset's name and the config that the arguments ask for.

    Args:
        args: of the command line, without the program.

    Raises:
        SystemExit: on an argument that does not parse, and for `--help`.
    """
    task, rest = _task(args)
    return command.parse(rest, MODULE, *TASKS[task])


def _task(args: list[str]) -> tuple[str, list[str]]:
    """Takes `--task TASK` or `--task=TASK` out of the arguments, wherever it is.

    Without it the preset tells the task.
    """
    for place, word in enumerate(args):
        flag, joined, task = word.partition("=")
        if flag != "--task":
            continue
        after = args[place + 1 :]
        if not joined:
            task, after = (after or [""])[0], after[1:]
        if task not in TASKS:
            raise SystemExit(f"--task should be one of {list(TASKS)}, got {task!r}.")
        return task, args[:place] + after
    preset = args[0] if args and not args[0].startswith("-") else next(iter(PRESETS))
    for task, (_, presets) in TASKS.items():
        if preset in presets:
            return task, args
    known = [name for _, presets in TASKS.values() for name in presets]
    raise SystemExit(
        f"expected one of {list(verbs.VERBS)}, or a preset of {known}, got {preset!r}."
    )


def _load() -> Callable[..., Any]:
    from experiments.make_zoo import inr, run

    def make(config: Config | InrConfig, **about: Any) -> dict[str, Any]:
        if isinstance(config, InrConfig):
            return inr.run(config, **about)
        return run.run(config, **about)

    return make


def main() -> int:
    """Makes the zoo, or does what a verb says; returns the exit status."""
    if sys.argv[1:2] and sys.argv[1] in verbs.VERBS:
        return verbs.main(sys.argv[1], sys.argv[2:])
    task, rest = _task(sys.argv[1:])
    return command.main(MODULE, *TASKS[task], _load, rest)


if __name__ == "__main__":
    sys.exit(main())
