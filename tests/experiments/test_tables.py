import json

import pytest

from experiments import speed, tables


def _entry(tau, probes=None):
    scores = {"kendall_tau": tau, "r2": 0.5, "mae": 0.1}
    scores |= {f"{name}_std": 0.01 for name in list(scores)}
    shared = {
        "model": "a model",
        "params": 1234,
        "seeds": 3,
        "test_scaled": {"1e1": tau, "1e4": tau},
        "invariance_gap": 1e-6,
    }
    if probes is None:
        return {"test": scores, **shared}
    return {**scores, "probes": probes, **shared}


@pytest.fixture
def run(tmp_path):
    """A finished run, as `record` finds it."""
    out = tmp_path / "run"
    out.mkdir()
    made = {
        "experiment": "predict_accuracy",
        "preset": "smoke",
        "command": "python -m experiments.predict_accuracy smoke",
        "config": {"seed": 0, "seeds": 3, "out": "x", "zoo": "y", "zoos": "z"},
        "versions": {"python": "3.11", "jax": "0.10"},
        "machine": {"cpus": 2, "architecture": "x86_64", "device": "cpu"},
    }
    metrics = {
        "without_probes": _entry(0.7),
        "with_probes": _entry(0.8),
        "baselines": {"trees_all": _entry(0.6, True), "strict": _entry(0.5, False)},
        "seconds": 60.0,
    }
    (out / "config.json").write_text(json.dumps(made))
    (out / "metrics.json").write_text(json.dumps(metrics))
    (out / "scatter.png").write_bytes(b"picture")
    return out


TEXT = (
    "before\n<!-- results: predict_accuracy_smoke -->\n<!-- end of results -->\nend\n"
)


def test_a_recorded_run_becomes_a_table(run, tmp_path):
    results = tmp_path / "results"
    path = tables.record(run, results)
    kept = json.loads(path.read_text())
    assert (results / f"{path.stem}_scatter.png").read_bytes() == b"picture"
    assert not {"out", "zoo", "zoos"} & set(kept["config"])
    text = tables.render(TEXT, results)
    assert text.startswith("before\n")
    assert text.endswith("end\n")
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("|")]
    # The two columns stand apart: everything without probes first.
    assert rows[2:] == ["| without_probes", "| strict", "| with_probes", "| trees_all"]
    assert "0.700 ± 0.010" in text
    assert "3 seeds from seed 0, 1.0 minutes on 2 CPUs" in text


def test_a_readme_that_disagrees_is_stale(run, tmp_path):
    results, readme = tmp_path / "results", tmp_path / "README.md"
    tables.record(run, results)
    readme.write_text(TEXT)
    assert tables.stale([readme], results) == [readme]
    readme.write_text(tables.render(TEXT, results))
    assert tables.stale([readme], results) == []
    readme.write_text(readme.read_text().replace("0.700", "0.701"))
    assert tables.stale([readme], results) == [readme]


def test_an_unknown_result_is_named(tmp_path):
    with pytest.raises(ValueError, match="'predict_accuracy_smoke': expected one of"):
        tables.render(TEXT, tmp_path)


def test_a_marker_without_an_end_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs a `<!-- end of results -->`"):
        tables.render("<!-- results: predict_accuracy_smoke -->\n", tmp_path)


def test_an_unfinished_run_is_not_recorded(run, tmp_path):
    (run / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"found no metrics\.json"):
        tables.record(run, tmp_path)


def test_the_committed_readmes_agree_with_the_results():
    assert tables.stale(tables.readmes()) == []


def test_the_speed_table_says_what_was_measured(tmp_path):
    rate = {"status": "ok", "networks_per_second": 900.0, "parameters": 1000}
    stamp = {"command": "x", "cores": 2, "device": "cpu: cpu"}
    stamp["versions"] = {"jax": "0.10", "torch": "2.13"}
    once = {"networks_per_second": 3.0, "rate_ratio": 0.5, "loop_ratio": 6.0}
    written = {
        "predictor_speed": {
            "stamp": stamp,
            "peak_memory_bytes": 2**30,
            "competitors": {
                "qejax": {**rate, "compile_seconds": 1.0},
                "qejax_prepare": rate,
                "nfn_np": rate,
                "nfn_hnp": {"status": "missing"},
            },
            "times_faster_than": {"qejax": {"nfn_np": 7.0}},
        },
        "peers_tau": {
            "summary": {"nfn_np": {"test_tau_mean": 0.5, "test_tau_std": 0.25}}
        },
        "act": {"stamp": stamp, "answer": {"median_ratio": 0.8}},
        "generate": {
            "stamp": stamp,
            "mlp": {"at_once": once},
            "cnn": {"at_once": once},
        },
        "predict_accuracy_small_cnn_zoo": {"metrics": {"without_probes": _entry(0.75)}},
    }
    for name, value in written.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    record = speed.summarise(tmp_path, tmp_path)
    first, second = speed.lines(record)
    assert first["tau"] == "0.750 ± 0.010"
    assert second["tau"] == "0.500 ± 0.250"
    assert second["`qejax` is faster by"] == "7.0 x"
    assert "MLPs: 3.0 networks/s, 50%" in speed.notes(record)
    (tmp_path / "act.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"act\.json"):
        speed.summarise(tmp_path, tmp_path)


def test_the_table_of_fits_says_what_was_measured(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"fit\.json"):
        speed.summarise_fits(tmp_path)
    stamp = {"command": "x", "cores": 2, "device": "cpu: cpu"}
    found = {
        "stamp": stamp | {"versions": {"jax": "0.10"}},
        **{"fits": 32, "together": 4, "steps": 200},
        **{"floor_share": 0.64, "loop_ratio": 5.0},
        "times": {
            "at_once": {"median_seconds": 0.8},
            "loop_fit": {"median_seconds": 0.125},
            "loop_steps": {"median_seconds": 0.25},
        },
    }
    (tmp_path / "fit.json").write_text(json.dumps(found))
    record = speed.summarise_fits(tmp_path)
    assert record["experiment"] in tables.TABLES
    rows = [list(row.values())[1:] for row in speed.fit_lines(record)]
    assert rows[0] == ["40.0", "5.0 x", "64%"]
    assert rows[1:] == [["8.0", "1.0 x", "-"], ["4.0", "0.5 x", "-"]]
    assert "32 fits, 4 in a loop" in speed.fit_note(record)
