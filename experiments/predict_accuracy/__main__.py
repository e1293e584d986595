"""`python -m experiments.predict_accuracy [PRESET] [--field value ...]`."""

import itertools
import shlex
import signal
import sys

import tyro
from rich.console import Console

from experiments.predict_accuracy.config import PRESETS, Config

MODULE = "experiments.predict_accuracy"


def parse(args: list[str]) -> tuple[str, Config]:
    """Returns the preset's name and the config that the arguments ask for.

    Without a preset, `--zoo FORMAT:DIR` takes the preset of that format, and
    everything else the first preset.

    Args:
        args: of the command line, without the program.

    Raises:
        SystemExit: on an argument that does not parse, and for `--help`.
    """
    preset, rest = _split(args)
    text, config = PRESETS[preset]
    names = "\n".join(f"- `{name}`: {about}" for name, (about, _) in PRESETS.items())
    description = (
        f"Predicts test accuracies of networks from their weights.\n\n"
        f"Presets, given first:\n\n{names}\n\nDefaults below are of `{preset}`: {text}"
    )
    prog = f"python -m {MODULE} {preset}"
    try:
        made = tyro.cli(
            Config, prog=prog, args=rest, default=config, description=description
        )
    except ValueError as error:
        raise SystemExit(str(error)) from error
    return preset, made


def _split(args: list[str]) -> tuple[str, list[str]]:
    if args and not args[0].startswith("-"):
        if args[0] not in PRESETS:
            raise SystemExit(
                f"preset should be one of {list(PRESETS)}, got {args[0]!r}."
            )
        return args[0], args[1:]
    words = [word for arg in args for word in arg.split("=", 1)]
    for flag, value in itertools.pairwise(words):
        if flag == "--zoo" and value.split(":")[0] in PRESETS:
            return value.split(":")[0], args
    return next(iter(PRESETS)), args


def main() -> int:
    """Runs the experiment; returns the exit status."""
    preset, config = parse(sys.argv[1:])
    # Imported here: --help and a wrong flag answer at once.
    from experiments.predict_accuracy.run import run
    from qejax.train import CheckpointError, Interrupted

    # Outside of training, where `fit` saves first, SIGTERM stops as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    command = shlex.join(["python", "-m", MODULE, *sys.argv[1:]])
    console = Console()
    try:
        run(config, preset=preset, command=command, console=console)
    except (Interrupted, KeyboardInterrupt):
        console.print(f"stopped; the same command goes on from here: {command}")
        return 130
    except (ValueError, OSError, ArithmeticError, CheckpointError) as error:
        console.print(f"[red]error[/red] {error}", highlight=False)
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
