"""Zoos that many devices or processes make: the bytes that one makes."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from qejax import zoo
from tests import processes

KINDS = ("generated", "fitted", "imported")


def made(out: Path, devices: int, count: int) -> Path:
    lines = [[str(out), "--devices", str(devices)]] * count
    totals: dict[str, int] = {kind: 0 for kind in KINDS}
    for code, told, err in processes.ended(processes.start("tests.zoo.on_many", lines)):
        assert code == 0, err
        for kind, reports in json.loads(told.splitlines()[-1]).items():
            # Of its own share, from nothing to all of it.
            assert [done for done, *_ in reports] == sorted(
                {done for done, *_ in reports}
            )
            assert reports[-1][0] == reports[-1][1]
            assert not any(resumed for *_, resumed in reports)
            totals[kind] += reports[-1][1]
    found = {kind: zoo.read_all(out / kind).values() for kind in KINDS}
    for kind, zoos in found.items():
        for one in zoos:
            # The bits of one process, whoever computed them.
            want = zoo.normal_forms(one.network.spec, one.thetas)
            jax.tree.map(np.testing.assert_array_equal, one.normal, want)
        assert totals[kind] >= sum(map(len, zoos)) > 0
    assert sorted(path.name for path in out.iterdir()) == sorted(KINDS)
    return out


def files(root: Path) -> dict[str, bytes]:
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("one"), 1, 1)


@pytest.mark.parametrize(("devices", "count"), [(3, 1), (2, 2)])
@pytest.mark.one_in(3)
def test_many_make_what_one_makes(
    tmp_path: Path, one: Path, devices: int, count: int
) -> None:
    many = made(tmp_path, devices, count)
    # Read by hosts, one file after the other: the same bytes.
    assert files(many / "imported") == files(one / "imported")
    for kind, bucket in (("generated", "relu"), ("generated", "tanh"), ("fitted", "")):
        want, got = (zoo.read(root / kind, bucket or None) for root in (one, many))
        assert got.ids.tolist() == want.ids.tolist()
        # Trained by programs that were compiled apart: the same up to rounding.
        np.testing.assert_allclose(got.vectors(), want.vectors(), rtol=1e-4, atol=1e-5)
        # A control: other networks are told apart.
        assert np.abs(got.vectors()[1:] - want.vectors()[:-1]).max() > 1e-2
