"""Flags of the whole suite: laws are float64 laws, and no shape is guessed.

x64 is on and rank promotion raises everywhere. Strict dtype promotion is on only in
the rooms below: `optax.adam` and float64 `nnx.LayerNorm` promote on purpose.
"""

import gc
import os
import signal
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts in the background so; tests of Ctrl-C need it heard.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nearly all of the time is XLA compiling programs that run three times, so it compiles
# plainly: no optimisation, and not an MLIR module a fusion. Versions of jaxlib that do
# not know the last option ignore it. `XLA_FLAGS= pytest` compiles as users do.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
)
# The heap is full of programs that stay: walking it again and again finds nothing.
gc.set_threshold(100_000, 20, 20)

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Where in Python an operation comes from is a tenth of compiling a small program.
jax.config.update("jax_traceback_in_locations_limit", 0)

MOST = 2.5e9
"""Bytes of a process, above which programs are forgotten."""

STRICT_ROOMS = ("groups", "spaces", "nets", "laws")

# Layouts come from a small pool, so an example costs a call and no compilation; the
# first one of a layout compiles, which no deadline survives.
_COMMON = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": (HealthCheck.too_slow,),
}
settings.register_profile("ci", max_examples=50, **_COMMON)
settings.register_profile("nightly", max_examples=1000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(tryfirst=True)  # Before the slow ones are taken out.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has one case in n not slow, of each test that is marked `one_in(n)`.

    Where they begin differs by the name of the test, so that laws leave out different
    rows. A case that is asked for alone runs.
    """
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("one_in") and not item.get_closest_marker("slow"):
            cases[item.nodeid.split("[")[0]].append(item)
    for name, own in cases.items():
        mark = own[0].get_closest_marker("one_in")
        assert mark is not None
        step = min(mark.args[0], len(own))
        for place, item in enumerate(own, zlib.crc32(name.encode())):
            if place % step:
                item.add_marker(pytest.mark.slow)


def resident() -> float:
    """Memory of this process in bytes; 0 where no file tells."""
    told = Path("/proc/self/statm")
    pages = int(told.read_text().split()[1]) if told.exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(autouse=True, scope="module")
def _what_earlier_modules_left() -> None:
    """Forgets programs once there are many, and walks no old object for garbage.

    A program keeps a megabyte. With two thousand of them the next takes twice as long
    to compile, and a collection, which tests and libraries ask for, takes seconds.
    """
    if resident() > MOST:
        gc.unfreeze()
        jax.clear_caches()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _strict_dtype_promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """Turns strict dtype promotion on in the rooms that need no promotion."""
    here = Path(__file__).parent
    inside = request.path.is_relative_to(here)
    room = request.path.relative_to(here).parts[0] if inside else ""
    if room in STRICT_ROOMS:
        with jax.numpy_dtype_promotion("strict"):
            yield
    else:
        yield
