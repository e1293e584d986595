"""`python -m experiments.edit_inr [PRESET] [--field value ...]`."""

import shlex
import signal
import sys

import tyro
from rich.console import Console

from experiments.edit_inr.config import PRESETS, Config

MODULE = "experiments.edit_inr"


def parse(args: list[str]) -> tuple[str, Config]:
    """Returns the preset's name and the config that the arguments ask for.

    Args:
        args: of the command line, without the program.

    Raises:
        SystemExit: on an argument that does not parse, and for `--help`.
    """
    named = bool(args) and not args[0].startswith("-")
    preset = args[0] if named else next(iter(PRESETS))
    if preset not in PRESETS:
        raise SystemExit(f"preset should be one of {list(PRESETS)}, got {preset!r}.")
    text, config = PRESETS[preset]
    names = "\n".join(f"- `{name}`: {about}" for name, (about, _) in PRESETS.items())
    description = (
        f"Edits images by the weights of the networks that hold them.\n\n"
        f"Presets, given first:\n\n{names}\n\nDefaults below are of `{preset}`: {text}"
    )
    prog, rest = f"python -m {MODULE} {preset}", args[named:]
    try:
        made = tyro.cli(
            Config, prog=prog, args=rest, default=config, description=description
        )
    except ValueError as error:
        raise SystemExit(str(error)) from error
    return preset, made


def main() -> int:
    """Runs the experiment; returns the exit status."""
    preset, config = parse(sys.argv[1:])
    # Imported here: --help and a wrong flag answer at once.
    from experiments.edit_inr.run import run
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
