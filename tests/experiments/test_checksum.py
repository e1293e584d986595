"""Another zoo at the same place is another run."""

from pathlib import Path

import pytest

from experiments.checksum import digest_of
from experiments.classify_inr.config import PRESETS
from experiments.finished import finished, made
from experiments.predict_accuracy.record import write_json


def test_a_digest_is_of_the_names_and_bytes_of_files(tmp_path: Path) -> None:
    assert digest_of("") == digest_of(str(tmp_path)) == ""
    file = tmp_path / "siren_wts" / "x_0s" / "net1.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"one")
    address = f"nfn_siren:{tmp_path}"
    found = [digest_of(address)]
    file.write_bytes(b"two")
    found.append(digest_of(address))
    file.rename(file.with_name("net2.pth"))
    found.append(digest_of(address))
    assert "" not in found
    assert len(set(found)) == 3


def test_a_manifest_stands_for_its_shards(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    before = digest_of(str(tmp_path))
    (tmp_path / "a.shard").write_bytes(b"checked by the manifest")
    assert digest_of(str(tmp_path)) == before


def test_results_of_another_zoo_are_not_shown(tmp_path: Path) -> None:
    config = PRESETS["mnist"][1]
    first, second = (
        made("classify_inr", "mnist", "", config, ("out", "zoo"), data)
        for data in ("one", "two")
    )
    write_json(tmp_path / "config.json", first)
    write_json(tmp_path / "metrics.json", {"rows": {}})
    assert finished(tmp_path, first, ("out", "zoo")) == {"rows": {}}
    with pytest.raises(ValueError, match="networks of other bytes"):
        finished(tmp_path, second, ("out", "zoo"))
