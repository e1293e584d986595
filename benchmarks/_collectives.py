"""What a compiled program sends between devices, and what that costs on a pod.

Collectives are counted in the text of the compiled program, each once, with the bytes
of its result on one device; an asynchronous one at its start. The program of training
has one loop, a step in each turn, so what is in it is per step; what a step itself
repeats in a loop counts once.
"""

import math
import re
from typing import Any, NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
_LINE = re.compile(rf" = (.*?) ({'|'.join(KINDS)})(-start)?\(")
_SHAPE = re.compile(r"([a-z]+)(\d*)\w*\[([\d,]*)\]")
_BITS = {"pred": 8}


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Returns, by kind, how many there are in a program, and the bytes of results.

    Args:
        text: of a compiled program (HLO).

    Example:
        >>> collectives("%a = (f32[2,3]{1,0}, f32[]) all-reduce(%b, %c), channel_id=1")
        {'all-reduce': {'count': 1, 'bytes': 28}}
        >>> collectives("%a = (f32[2]{0}, f32[8]{0}) all-gather-start(%b), dimensions=")
        {'all-gather': {'count': 1, 'bytes': 32}}
    """
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        match = _LINE.search(line)
        if match is None:
            continue
        shapes, kind, started = match.groups()
        # Scalars of u32 are what a device keeps of a transfer.
        parts = [one for one in _SHAPE.findall(shapes) if one != ("u", "32", "")]
        sizes = [_bytes(*shape) for shape in parts]
        # What is started returns its arguments before its results, but for reductions.
        if started and kind != "all-reduce":
            sizes = sizes[len(sizes) // 2 :]
        row = found.setdefault(kind, {"count": 0, "bytes": 0})
        row["count"] += 1
        row["bytes"] += sum(sizes)
    return found


def _bytes(name: str, bits: str, dimensions: str) -> int:
    size = math.prod(int(one) for one in dimensions.split(",") if one)
    return size * (_BITS.get(name) or int(bits)) // 8


class Chip(NamedTuple):
    """Published rates of a chip.

    Attributes:
        name: of it.
        flops: products of bfloat16 with sums of float32, a second.
        memory: bytes a second, to and from its memory.
        links: bytes a second that it sends, all links together, one direction.
        source: where the numbers are published.
    """

    name: str
    flops: float
    memory: float
    links: float
    source: str


V5E = Chip(
    "TPU v5e",
    flops=197e12,
    memory=819e9,
    # 1600 Gbit/s a chip: 400 GB/s, both directions together.
    links=200e9,
    source="https://cloud.google.com/tpu/docs/v5e (key chip specifications)",
)
HOP_SECONDS = 1e-6
"""From a chip to the next, whatever is sent: assumed, not published."""
METHOD = (
    "One chip's step, precision bfloat16 (float32 at all its digits takes about six of "
    "its products): flops and bytes accessed by XLA's cost_analysis of the step "
    "compiled for one CPU device, at one chip's batch; seconds = max(flops / peak, "
    "bytes / memory rate): every byte that the CPU program moves between fusions is "
    "taken to go through memory, and nothing overlaps with the all-reduce. "
    "All-reduce of the gradients along both rings of the side x side torus: 2 (N - 1) "
    "/ N x bytes / rate of the links of a chip in one direction, plus 4 (side - 1) "
    "hops. Input is in memory. An estimate on paper: nothing here ran on a TPU."
)


def pod_estimate(
    flops: float, bytes_accessed: float, gradient_bytes: float, batch: int, side: int
) -> dict[str, Any]:
    """Returns the step of data-parallel training on `side^2` chips, estimated.

    Args:
        flops: of one chip's step.
        bytes_accessed: by it, in its memory.
        gradient_bytes: that are summed over all chips.
        batch: examples of one chip.
        side: of the torus of chips.
    """
    chips = side**2
    compute, memory = flops / V5E.flops, bytes_accessed / V5E.memory
    bandwidth = 2 * (chips - 1) / chips * gradient_bytes / V5E.links
    latency = 4 * (side - 1) * HOP_SECONDS
    step = max(compute, memory) + bandwidth + latency
    return {
        "chips": chips,
        "batch_per_chip": batch,
        "compute_seconds": compute,
        "memory_seconds": memory,
        "bound_by": "compute" if compute > memory else "memory",
        "all_reduce_seconds": bandwidth + latency,
        "step_seconds": step,
        "networks_per_second": chips * batch / step,
        "share_of_one_chip_rate": max(compute, memory) / step,
    }
