"""`python -m experiments.make_zoo [--task TASK] [PRESET] [--field value ...]`."""

import shlex
import signal
import sys
from typing import Any

import tyro
from rich.console import Console

from experiments.make_zoo.config import PRESETS, Config
from experiments.make_zoo.inr_config import INR_PRESETS, InrConfig

MODULE = "experiments.make_zoo"

TASKS: dict[str, tuple[str, type, dict[str, tuple[str, Any]]]] = {
    "classifier": ("Trains a zoo of transformers.", Config, PRESETS),
    "inr": ("Fits a zoo of coordinate networks.", InrConfig, INR_PRESETS),
}
"""What `--task` may be: what it does, its config and presets. First is the default."""


def parse(args: list[str]) -> tuple[str, Config | InrConfig]:
    """Returns the preset's name and the config that the arguments ask for.

    Without `--task` the preset tells the task.

    Args:
        args: of the command line, without the program.

    Raises:
        SystemExit: on an argument that does not parse, and for `--help`.
    """
    task, rest = _task(args)
    known = {
        name: key
        for key, (_, _, presets) in TASKS.items()
        for name in presets
        if task in (None, key)
    }
    preset = next(iter(known))
    if rest and not rest[0].startswith("-"):
        preset, *rest = rest
    if preset not in known:
        of = f" of --task {task}" if task else ""
        raise SystemExit(f"preset{of} should be one of {list(known)}, got {preset!r}.")
    about, kind, presets = TASKS[known[preset]]
    text, config = presets[preset]
    names = "\n".join(f"- `{name}`: {what}" for name, (what, _) in presets.items())
    description = (
        f"{about}\n\nPresets, given first:\n\n{names}\n\nDefaults below are of "
        f"`{preset}`: {text}\n\nOther zoos: --task {' or '.join(TASKS)}, with --help."
    )
    prog = f"python -m {MODULE} {preset}"
    try:
        made = tyro.cli(
            kind, prog=prog, args=rest, default=config, description=description
        )
    except ValueError as error:
        raise SystemExit(str(error)) from error
    return preset, made


def _task(args: list[str]) -> tuple[str | None, list[str]]:
    """Takes `--task TASK` or `--task=TASK` out of the arguments, wherever it is."""
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
    return None, args


def main() -> int:
    """Makes the zoo; returns the exit status."""
    preset, config = parse(sys.argv[1:])
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    command = shlex.join(["python", "-m", MODULE, *sys.argv[1:]])
    console = Console()
    try:
        # Imported here: --help and a wrong flag answer at once.
        if isinstance(config, InrConfig):
            from experiments.make_zoo import inr

            inr.run(config, preset=preset, command=command, console=console)
        else:
            from experiments.make_zoo.run import run

            run(config, preset=preset, command=command, console=console)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command goes on from here: {command}")
        return 130
    except (ValueError, OSError) as error:
        console.print(f"[red]error[/red] {error}", highlight=False)
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
