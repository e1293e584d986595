import json

import pytest

from experiments import cut_offs, tables


def _run(cut_off: float, tau: float, networks: int) -> dict:
    def entry(shift: float, **more: object) -> dict:
        scores = {"kendall_tau": tau + shift, "kendall_tau_std": 0.01}
        moved = {"test_scaled": {"1e2": tau + shift - 0.2}, "model": "a model"}
        return {**scores, **moved, **more}

    column = entry(0.0)
    return {
        "command": "python -m experiments.predict_accuracy some",
        "seeds": 3,
        "versions": {"jax": "0.10"},
        "machine": {"cpus": 2},
        "metrics": {
            "without_probes": {**column, "test": column},
            "with_probes": {**column, "test": entry(0.1)},
            "baselines": {"strict": entry(-0.1, probes=False)},
            "cut_off": cut_off,
            "networks": networks,
            "seconds": 60.0,
        },
    }


def test_runs_become_columns_in_the_order_of_their_cut_offs(tmp_path):
    stem = "predict_accuracy_some"
    for name, run in (
        (stem, _run(0.0, 0.8, 1024)),
        (f"{stem}_cut_60", _run(0.6, 0.6, 400)),
        (f"{stem}_cut_20", _run(0.2, 0.7, 800)),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
    result = cut_offs.runs("some", tmp_path)
    first, strict, probes = cut_offs.lines(result)
    assert list(first)[3:] == ["0 (1,024)", "0.2 (800)", "0.6 (400)", "0, heads moved"]
    assert [row["row"] for row in (first, strict, probes)] == [
        "without_probes",
        "strict",
        "with_probes",
    ]
    assert first["0.2 (800)"] == "0.700 ± 0.010"
    assert strict["0, heads moved"] == "0.500"
    assert probes["0.6 (400)"] == "0.700 ± 0.010"
    assert "3 minutes in all" in cut_offs.note(result)
    block = "<!-- results: cut_offs_of_some -->\n<!-- end of results -->\n"
    assert "| strict | a model | no |" in tables.render(block, tmp_path)


def test_without_a_whole_run_there_is_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match="predict_accuracy_some"):
        cut_offs.runs("some", tmp_path)


def test_a_run_with_a_cut_off_is_recorded_beside_the_whole_one(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    run = _run(0.4, 0.7, 500)
    made = {
        "experiment": "predict_accuracy",
        "preset": "some",
        "command": run["command"],
        "config": {"seed": 0, "seeds": 3, "cut_off": 0.4},
        "versions": run["versions"],
        "machine": run["machine"],
    }
    (out / "config.json").write_text(json.dumps(made))
    (out / "metrics.json").write_text(json.dumps(run["metrics"]))
    (out / "scatter.png").write_bytes(b"picture")
    path = tables.record(out, tmp_path / "results")
    assert path.name == "predict_accuracy_some_cut_40.json"
    assert not list((tmp_path / "results").glob("*.png"))
