"""Starting `jax.distributed` where the environment says that there are many processes.

Ways to be started are rows: which variables each sets, and what JAX is told. One way is
found by its variables; some of them without the others is an error, because a process
that runs alone by mistake would do the work of all, beside all.
"""

import glob
import importlib.util
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qejax._devices import batch_sharding, spread
from qejax._processes import PeerError, peers, wait_for_all
from qejax.train._last_word import leave_on_errors, say_if_killed, say_nothing
from qejax.train._mesh import make_mesh

Environ = Mapping[str, str]


class Launch(NamedTuple):
    """How this process was started.

    Attributes:
        name: of the way.
        arguments: of `jax.distributed.initialize`; none where JAX finds them itself.
    """

    name: str
    arguments: dict[str, Any]


class _Way(NamedTuple):
    """A way to start processes.

    Attributes:
        name: of it.
        variables: that it sets, all of them.
        telling: those of them that nothing else sets.
        size: the one that holds the number of processes; where that is 1, it is none.
        arguments: of `jax.distributed.initialize`.
        remedy: what to do where some are missing.
    """

    name: str
    variables: tuple[str, ...]
    telling: tuple[str, ...]
    size: str
    arguments: Callable[[Environ], dict[str, Any]]
    remedy: str


WAITED = 300
"""Seconds in which all processes have to come."""

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"

_WAYS = (
    _Way(
        "explicit",
        (ADDRESS, COUNT, INDEX),
        (ADDRESS, COUNT, INDEX),
        COUNT,
        lambda env: {
            "coordinator_address": env[ADDRESS],
            "num_processes": int(env[COUNT]),
            "process_id": int(env[INDEX]),
        },
        f"Set all three, or {COUNT}=1 alone for one process",
    ),
    _Way(
        "SLURM",
        (
            "SLURM_JOB_ID",
            "SLURM_STEP_NODELIST",
            "SLURM_NTASKS",
            "SLURM_PROCID",
            "SLURM_LOCALID",
        ),
        ("SLURM_NTASKS",),
        "SLURM_NTASKS",
        lambda env: {},
        f"Start it with `srun`, or set {COUNT}=1 for one process",
    ),
)


def find_launch(environ: Environ, on_tpu: bool) -> Launch | None:
    """Returns how this process was started, or None if it is alone.

    Args:
        environ: its variables. `JAX_COORDINATOR_ADDRESS` (host:port of process 0),
            `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` come first; then what `srun` sets;
            on a TPU VM JAX asks the machine.
        on_tpu: whether this is a TPU VM.

    Raises:
        ValueError: if some variables of a way are set and others are not, a number is
            none, or an address has no port.

    Example:
        >>> find_launch({}, on_tpu=False) is None
        True
        >>> find_launch({"JAX_NUM_PROCESSES": "1"}, on_tpu=True) is None
        True
    """
    if environ.get(COUNT) == "1":
        return None
    for way in _WAYS:
        told = [name for name in way.telling if name in environ]
        if not told or environ.get(way.size) == "1":
            continue
        missing = [name for name in way.variables if name not in environ]
        if missing:
            raise ValueError(
                f"processes started by {way.name}: expected the variables "
                f"{list(way.variables)}, got {told} without {missing}. {way.remedy}."
            )
        arguments = _arguments(way, environ)
        if arguments is None:
            raise ValueError(
                f"processes started by {way.name}: expected numbers in {COUNT} and "
                f"{INDEX}, the second below the first, got {environ[COUNT]!r} and "
                f"{environ[INDEX]!r}. {way.remedy}."
            )
        address = arguments.get("coordinator_address", "host:1")
        if not re.fullmatch(r".+:\d+", address):
            raise ValueError(
                f"processes started by {way.name}: expected HOST:PORT in {ADDRESS}, "
                f"got {address!r}. Take a port of process 0 that is free."
            )
        return Launch(way.name, arguments)
    return Launch("TPU", {}) if on_tpu else None


def _arguments(way: _Way, environ: Environ) -> dict[str, Any] | None:
    """Returns what JAX is told; None if the numbers are none."""
    try:
        found = way.arguments(environ)
    except ValueError:
        return None
    fits = 0 <= found.get("process_id", 0) < found.get("num_processes", 1)
    return found if fits else None


def _on_tpu() -> bool:
    """Whether there are TPU chips and the library that drives them."""
    chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    asked = os.environ.get("JAX_PLATFORMS", "tpu")
    return bool(chips) and "tpu" in asked and bool(importlib.util.find_spec("libtpu"))


def start_processes(
    heartbeat_seconds: int = 100, tell: Callable[[str], None] | None = None
) -> str:
    """Joins the other processes of this program, if there are any.

    Call it first: before any array is made. Afterwards `jax.devices()` are those of all
    processes. A second call changes nothing. A process that is killed, or aborted
    because another one is gone, has a line printed that says what to do; one that ends
    by an exception ends at once, and does not wait for the others.

    Args:
        heartbeat_seconds: of silence after which a process counts as dead, and the
            others end.
        tell: takes a line that says who is waited for, before the wait.

    Returns:
        A line that says which process this is, and of how many devices.

    Raises:
        ValueError: as `find_launch`.
        PeerError: if the others cannot be reached, or JAX computed already.
    """
    launch = find_launch(os.environ, _on_tpu())
    first_call = launch is not None and not jax.distributed.is_initialized()
    if launch is not None and first_call:
        waits = _announced(launch)
        if tell is not None:
            tell(waits)
        try:
            with _own_signals():
                jax.distributed.initialize(
                    **launch.arguments,
                    initialization_timeout=WAITED,
                    heartbeat_timeout_seconds=heartbeat_seconds,
                )
        except Exception as error:
            raise PeerError(
                f"processes started by {launch.name}: expected to reach the others "
                f"with {launch.arguments or 'what the machine says'}, got {error}. "
                f"Start all at about the same time, or set {COUNT}=1 to run alone."
            ) from error
    how = "alone" if launch is None else f"started by {launch.name}"
    here, kind = jax.local_device_count(), jax.devices()[0].platform
    told = (
        f"process {jax.process_index()} of {jax.process_count()}, {how}: {here} of "
        f"{jax.device_count()} {kind} devices"
    )
    if jax.process_count() == 1:
        say_nothing()  # a TPU VM may be alone, and tells it late
        return told
    if first_call:
        leave_on_errors()
        _meet()
    return (
        f"{told}. If one ends, the others do within {heartbeat_seconds} s: start all "
        f"again with the same command to go on"
    )


def _announced(launch: Launch) -> str:
    """Returns who waits for whom; what ends this process from now on is said."""
    told = launch.arguments
    who, where = f"one of many processes, started by {launch.name},", ""
    if told:
        who = f"process {told['process_id']} of {told['num_processes']}"
        where = f" at {told['coordinator_address']}"
    say_if_killed(
        f"{who} was ended from outside: by the system, or because another one has "
        f"ended, see what that one printed, or could not be reached. Start all of them "
        f"again with the same command: they go on from what was saved."
    )
    return f"{who} waits for the others{where}, for {WAITED} s at most"


@contextmanager
def _own_signals() -> Iterator[None]:
    """Signals end the process inside, which waits outside of Python, and are as before.

    JAX takes SIGTERM for itself, and nobody would hear it.
    """
    numbers = signal.SIGINT, signal.SIGTERM
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _meet() -> None:
    """Sends something over every path that is used later, while all are here.

    On CPUs the first exchange of some devices has to begin within 30 seconds on all of
    them; later ones may wait for as long as a process is busy.
    """
    wait_for_all()
    ones = np.ones(jax.device_count(), np.float32)
    with peers():
        ones = spread(ones, batch_sharding(make_mesh()))
        jax.block_until_ready(jax.jit(jnp.sum)(ones))
