import json

import pytest

from experiments import inr_curve, tables


def _run(networks: int, accuracy: float, *rows: str) -> dict:
    def row(name: str) -> dict:
        test = {"accuracy": accuracy, "accuracy_std": 0.01}
        return {"params": 1234, "probes": "probes" in name, "test": test}

    return {
        "command": "python -m experiments.classify_inr some",
        "seeds": 3,
        "config": {"steps": 20, "batch": 10},
        "metrics": {
            "rows": {name: row(name) for name in rows},
            "zoo": {"train": networks, "test": 40},
        },
    }


def _peers() -> dict:
    def one(accuracy: float) -> dict:
        return {
            "parameters": 5678,
            "epochs": 8,
            "seeds": 3,
            "best_in_last_epoch": 2,
            "test_accuracy_mean": accuracy,
            "test_accuracy_std": 0.02,
        }

    return {
        "command": "python -m benchmarks.peers.inr_curve",
        "summary": {
            f"{name} {size}": one(accuracy)
            for name, accuracy in (("NP", 0.3), ("HNP", 0.25))
            for size in (30, 100)
        },
    }


@pytest.fixture
def results(tmp_path):
    runs = {
        "some": _run(100, 0.9, "strict", "signed", "probes"),
        "some_networks_30": _run(30, 0.6, "signed", "probes"),
    }
    for name, run in runs.items():
        (tmp_path / f"classify_inr_{name}.json").write_text(json.dumps(run))
    (tmp_path / "peers_inr.json").write_text(json.dumps(_peers()))
    return tmp_path


def test_runs_become_columns_and_rows_with_probes_stay_out(results):
    result = inr_curve.runs("some", results, results / "peers_inr.json")
    table = inr_curve.lines(result)
    assert [row["model"] for row in table] == [
        "`qejax`, signed",
        "`nfn` 0.1.2, NP",
        "`nfn` 0.1.2, HNP",
    ]
    assert list(table[0]) == ["model", "parameters", "30", "100"]
    assert [row["30"] for row in table] == ["60.0 ± 1.0", "30.0 ± 2.0", "25.0 ± 2.0"]
    assert table[0]["100"] == "90.0 ± 1.0"
    note = inr_curve.note(result)
    assert "20 steps of 10 networks at 100 (2 epochs)" in note
    assert "smaller ones with `--networks 30 --steps 20`: accuracy" in note
    assert "best in the last one for 2 of 3 and 2 of 3 seeds" in note


def test_a_marker_names_the_preset(results, monkeypatch):
    peers = results / "peers_inr.json"
    runs = inr_curve.runs
    both = ("classify_inr", lambda preset, folder: runs(preset, folder, peers))
    monkeypatch.setitem(tables.TOGETHER, "inr_curve", both)
    block = "<!-- results: inr_curve_of_some -->\n<!-- end of results -->\n"
    assert "| `qejax`, signed | 1,234 | 60.0" in tables.render(block, results)


def test_without_a_run_on_all_networks_there_is_no_table(results):
    (results / "classify_inr_some.json").unlink()
    with pytest.raises(FileNotFoundError, match="classify_inr_some"):
        inr_curve.runs("some", results, results / "peers_inr.json")


def test_a_run_on_some_networks_is_recorded_beside_the_whole_one(results):
    out = results / "out"
    out.mkdir()
    made = {
        "experiment": "classify_inr",
        "preset": "mnist",
        "command": "x",
        "versions": {},
        "machine": {},
        "config": {"seed": 0, "seeds": 3, "networks": 30},
    }
    (out / "config.json").write_text(json.dumps(made))
    (out / "metrics.json").write_text("{}")
    (out / "classes.png").write_bytes(b"picture")
    path = tables.record(out, results)
    assert path.name == "classify_inr_mnist_networks_30.json"
    assert not list(results.glob("*.png"))
