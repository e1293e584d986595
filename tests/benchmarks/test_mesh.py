"""What is counted in a compiled program, and the arithmetic of the estimate."""

import pytest

from benchmarks._collectives import HOP_SECONDS, V5E, collectives, pod_estimate

PROGRAM = """
  %a.1 = (f32[], f32[4,8]{1,0}, /*index=5*/bf16[3]{0}) all-reduce(%b, %c, %d)
  %e.2 = (f32[2]{0}, f32[8]{0}) all-gather-start(%f), dimensions={0}
  %e.3 = f32[8]{0} all-gather-done(%e.2)
  %g.4 = s32[2,2]{1,0} collective-permute(%h), channel_id=1
  %i.5 = f32[99]{0} add(%all-reduce, %j), metadata={op_name="all-reduce(x)"}
"""


def test_each_collective_is_counted_once_with_its_bytes() -> None:
    assert collectives(PROGRAM) == {
        "all-reduce": {"count": 1, "bytes": 4 + 4 * 32 + 2 * 3},
        "all-gather": {"count": 1, "bytes": 4 * 8},
        "collective-permute": {"count": 1, "bytes": 16},
    }
    assert collectives("%a = f32[3]{0} add(%b, %c)") == {}


def test_the_slower_of_compute_and_memory_bounds_a_step() -> None:
    fast = pod_estimate(V5E.flops, V5E.memory / 2, 0.0, 8, 16)
    slow = pod_estimate(V5E.flops, V5E.memory * 2, 0.0, 8, 16)
    hops = 60 * HOP_SECONDS
    assert fast["bound_by"] == "compute"
    assert fast["step_seconds"] == pytest.approx(1.0 + hops)
    assert slow["bound_by"] == "memory"
    assert slow["networks_per_second"] == pytest.approx(256 * 8 / (2.0 + hops))


def test_an_all_reduce_sends_nearly_twice_its_bytes() -> None:
    found = pod_estimate(0.0, 0.0, V5E.links, 1, 2)
    assert found["all_reduce_seconds"] == pytest.approx(2 * 3 / 4 + 4 * HOP_SECONDS)
    alone = pod_estimate(V5E.flops, 0.0, V5E.links, 1, 1)
    assert alone["all_reduce_seconds"] == 0.0
    assert alone["share_of_one_chip_rate"] == 1.0
