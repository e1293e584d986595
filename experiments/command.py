"""The command line of an experiment: `python -m MODULE [PRESET] [--field value]`."""

import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape


def parse(
    args: list[str],
    module: str,
    about: str,
    presets: Mapping[str, tuple[str, Any]],
    default: str = "",
) -> tuple[str, Any]:
    """Returns the preset's name and the config that the arguments ask for.

    Args:
        args: of the command line, without the program.
        module: of the experiment.
        about: a sentence for `--help`.
        presets: by name, what it is and its config.
        default: where none is named; the first by default.

    Raises:
        SystemExit: on an argument that does not parse, and for `--help`.
    """
    named = bool(args) and not args[0].startswith("-")
    preset = args[0] if named else default or next(iter(presets))
    if preset not in presets:
        raise SystemExit(f"preset should be one of {list(presets)}, got {preset!r}.")
    text, config = presets[preset]
    names = "\n".join(f"- `{name}`: {what}" for name, (what, _) in presets.items())
    description = (
        f"{about}\n\nPresets, given first:\n\n{names}\n\nDefaults below are of "
        f"`{preset}`: {text}"
    )
    prog, rest = f"python -m {module} {preset}", args[named:]
    try:
        made = tyro.cli(
            type(config), prog=prog, args=rest, default=config, description=description
        )
    except ValueError as error:
        raise SystemExit(str(error)) from error
    return preset, made


def main(
    module: str,
    about: str,
    presets: Mapping[str, tuple[str, Any]],
    load: Callable[[], Callable[..., Any]],
    args: Sequence[str] | None = None,
    default: str = "",
) -> int:
    """Runs the experiment; returns the exit status.

    Args:
        module: of the experiment.
        about: a sentence for `--help`.
        presets: as for `parse`.
        load: imports and returns `run(config, preset=, command=, console=)`, so that
            `--help` and a wrong flag answer at once.
        args: that are parsed; those of the command line by default.
        default: as for `parse`.
    """
    given = list(sys.argv[1:] if args is None else args)
    preset, config = parse(given, module, about, presets, default)
    line = shlex.join(["python", "-m", module, *sys.argv[1:]])

    def work(console: Console) -> None:
        load()(config, preset=preset, command=line, console=console)

    return guarded(work, line, together=True)


def guarded(
    work: Callable[[Console], Any], command: str, *, together: bool = False
) -> int:
    """Does the work; returns the exit status, after a message if it fails.

    Args:
        work: what to do, with a console for its reports.
        command: that goes on with it after an interruption.
        together: whether all processes of this command work, if there are many;
            otherwise the first one does, and the others wait for it.
    """
    import jax

    from qejax import train

    # Outside of training, where `fit` saves first, SIGTERM stops as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    console, status = Console(), 0

    def alone() -> None:  # what the work returns is no JSON
        work(console)

    try:
        start()
        # Of many processes the first one reports.
        if together:
            work(console if train.is_first() else Console(quiet=True))
        else:
            train.on_first(alone)
    except (train.Interrupted, KeyboardInterrupt):
        console.print(f"stopped; the same command goes on from here: {command}")
        status = 130
    except (*_FAILURES, train.CheckpointError, train.PeerError) as error:
        console.print(f"[red]error[/red] {escape(str(error))}", highlight=False)
        status = 2
    except Exception:
        if jax.process_count() == 1:
            raise
        traceback.print_exc()
        status = 1
    finally:
        signal.signal(signal.SIGTERM, before)
    if status and jax.process_count() > 1:
        train.leave(status)
    return status


_FAILURES = (ValueError, OSError, ArithmeticError)


def start() -> None:
    """Joins the other processes of this command, if there are any, and says so.

    Raises:
        ValueError: if the environment says half of it.
        PeerError: if the others cannot be reached.
    """
    from qejax.train import start_processes

    told = start_processes(tell=lambda line: print(line, flush=True))
    if "alone" not in told:
        print(told, flush=True)
