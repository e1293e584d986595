"""Starts processes of one program on this machine, each told which of them it is."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    """Returns a port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def environs(count: int) -> list[dict[str, str]]:
    """Returns the variables that tell each of so many processes which of them it is."""
    if count == 1:
        return [{"JAX_NUM_PROCESSES": "1"}]
    many = {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{free_port()}",
        "JAX_NUM_PROCESSES": str(count),
    }
    return [many | {"JAX_PROCESS_ID": str(index)} for index in range(count)]


def start(
    module: str, lines: list[list[str]], **environ: str
) -> list[subprocess.Popen[str]]:
    """Starts a process for each line of arguments."""
    return [
        subprocess.Popen(
            [sys.executable, "-m", module, *line],
            cwd=ROOT,
            env={**os.environ, **told, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line, told in zip(lines, environs(len(lines)), strict=True)
    ]


def ended(
    processes: list[subprocess.Popen[str]], seconds: float = 240
) -> list[tuple[int, str, str]]:
    """Waits for all; returns exit status, output and errors of each."""
    found = []
    for process in processes:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:  # the test sees the exit status
            process.kill()
            out, err = process.communicate()
        found.append((process.returncode, out, err))
    return found
