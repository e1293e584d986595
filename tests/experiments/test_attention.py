import json

import pytest

from experiments import attention, tables


def test_the_table_of_attention_says_what_was_measured(tmp_path):
    step = {"parameters": 1000, "compile_seconds": 2.0}
    slope = {"time": 1.2, "memory": 1.0, "flops": 1.01}
    width = {"status": "ok", "median_seconds": 0.002}
    width["compiled_memory"] = {"temp_bytes": 2**20}
    found = {
        "stamp": {
            "command": "python -m benchmarks.bench_attention",
            "cores": 2,
            "device": "cpu",
            "versions": {"jax": "0.10"},
        },
        "step": {
            kind: {**step, "networks_per_second": 100.0 * n, "speed_of_strict": 0.5 * n}
            for n, kind in enumerate(attention.KINDS, 1)
        },
        "width": {"probed 64": width, "probed 4096": width, "dense 64": width},
        "width_slopes": {"from_width": 512, "probed": slope, "dense": slope},
        "normal_form": {"canonical_form": {"networks": 1000, "median_seconds": 1.6}},
    }
    (tmp_path / "attention.json").write_text(json.dumps(found))
    record = attention.summarise(tmp_path)
    first, *_, last = attention.lines(record)
    assert first["networks/s"] == "100"
    assert last["speed of strict"] == "2.00 x"
    text = tables.markdown(record)
    assert (
        "| message passing on the normal form | 1,000 | 400 | 2.0 s | 2.00 x |" in text
    )
    assert "operations 1.01, memory 1.00, time 1.20" in text
    assert "1,000 encoders: 1.6 s" in text


def test_a_benchmark_that_was_not_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"attention\.json"):
        attention.summarise(tmp_path)
