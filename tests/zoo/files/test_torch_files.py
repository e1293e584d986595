"""PyTorch checkpoints: read exactly, nothing in them run, all damage named.

They are written by hand, without PyTorch. The real files at the end are its own.
"""

import builtins
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax.zoo.files import read_state
from tests.zoo.files.torch_pickles import (
    EMPTY,
    FLOATS,
    ONES,
    PARAMETER,
    REBUILD,
    Call,
    Name,
    Stored,
    code,
    storage,
    tensor,
    write,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.pt"


def test_tensors_are_read_by_name_in_order(path: Path) -> None:
    bias, weight = np.arange(3.0), np.arange(6, dtype=np.float32)
    state = OrderedDict(
        b=tensor((3,), of=storage("0", "Double", 3)),
        a=Call(PARAMETER, (tensor((2, 3), (3, 1), of=storage("1")), True, EMPTY)),
    )
    got = read_state(write(path, state, bias, weight, byteorder=b"little"))
    assert list(got) == ["b", "a"]
    np.testing.assert_array_equal(got["b"], bias, strict=True)
    np.testing.assert_array_equal(got["a"], weight.reshape(2, 3), strict=True)
    assert all(array.flags.writeable for array in got.values())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nested_dictionaries_are_flattened(path: Path, protocol: int) -> None:
    net = {"layer": {"bias": tensor()}, "name": "a", "": tensor((), (), 5)}
    net |= {"none": None, "sizes": [1, (2.5, True)], 7: {"a.b": tensor((2,))}}
    got = read_state(write(path, {"epoch": 3, "net": net}, ONES))
    shapes = {name: array.shape for name, array in got.items()}
    assert shapes == {"net.layer.bias": (6,), "net.": (), "net.7.a.b": (2,)}
    plain = {"a": {"b": [1, 2.5, None, True], "c": ("x", -1, 2**40)}, 3: [(), {}, []]}
    assert read_state(write(path, pickle.dumps(plain, protocol)[:-1])) == {}


def test_attributes_of_dictionaries_are_left_out(path: Path) -> None:
    metadata = code({"_metadata": OrderedDict({"": {"version": 1}})})
    got = read_state(write(path, code(OrderedDict(a=tensor())) + metadata + b"b", ONES))
    assert list(got) == ["a"]


KINDS = "Float Double Half Long Int Short Char Byte Bool".split()
TYPES = "f4 f8 f2 i8 i4 i2 i1 u1 ?".split()


@pytest.mark.parametrize("order", [{}, {"byteorder": b"little"}, {"byteorder": b"big"}])
@pytest.mark.parametrize(("kind", "dtype"), [*zip(KINDS, TYPES, strict=True)])
def test_types_and_byte_orders(path: Path, kind: str, dtype: str, order: Any) -> None:
    numbers = np.array([0, 1, 100, 3, 2, 7]).astype(dtype)
    sign = ">" if order.get("byteorder") == b"big" else "<"
    state = {"a": tensor((2, 3), (3, 1), of=storage("0", kind))}
    got = read_state(write(path, state, numbers.astype(sign + dtype), **order))["a"]
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, numbers.reshape(2, 3), strict=True)


@pytest.mark.parametrize("order", ["little", "big"])
def test_bfloat16_is_read_as_float32(path: Path, order: str) -> None:
    bits = np.array([0x3F80, 0xBF80, 0x4049, 0x0001, 0x7F80, 0])
    stored = bits.astype(">u2" if order == "big" else "<u2")
    state = {"a": tensor(of=storage("0", "BFloat16"))}
    got = read_state(write(path, state, stored, byteorder=order.encode()))["a"]
    expected = np.array([1, -1, 3.140625, 2.0**-133, np.inf, 0], np.float32)
    np.testing.assert_array_equal(got, expected, strict=True)


def test_views_are_copied(path: Path) -> None:
    numbers = np.arange(12, dtype=np.float32)
    of = storage(count=12)
    state = {
        "transposed": tensor((4, 3), (1, 4), of=of),
        "column": tensor((3,), (4,), 1, of=of),
        "expanded": tensor((2, 2), (0, 1), 10, of=of),
        "one": tensor((1, 2), (10**30, 1), 10, of=of),
        "empty": tensor((0, 5), (10**30, 1), of=of),
    }
    got = read_state(write(path, state, numbers))
    table = numbers.reshape(3, 4)
    np.testing.assert_array_equal(got["transposed"], table.T)
    np.testing.assert_array_equal(got["column"], table[:, 1])
    np.testing.assert_array_equal(got["expanded"], [[10, 11], [10, 11]])
    np.testing.assert_array_equal(got["one"], [[10, 11]])
    assert got["empty"].shape == (0, 5)
    assert all(array.flags.c_contiguous for array in got.values())
    got["column"][:] = 0
    assert got["transposed"][1, 0] == 1


class Attack(namedtuple("Attack", "called arguments")):
    """Calls something when it is unpickled."""

    def __reduce__(self) -> Any:
        return tuple(self)


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_is_run(path: Path, protocol: int) -> None:
    target = path.with_name("made")
    make = f"open({str(target)!r}, 'w').close()"
    attacks = {
        "system": Attack(os.system, (f"touch '{target}'",)),
        "Popen": Attack(subprocess.Popen, (["touch", str(target)],)),
        "exec": Attack(builtins.exec, (make,)),
        "eval": Attack(builtins.eval, (make,)),
    }
    for name, attack in attacks.items():
        program = pickle.dumps({"a": attack}, protocol)
        message = (
            rf"net\.pt: data.pkl, byte \d+, names '\w+\.{name}', which was neither"
        )
        with pytest.raises(ValueError, match=message):
            read_state(write(path, program[:-1]))
        assert not target.exists()
    # A control: the same bytes do what they are here for.
    pickle.loads(pickle.dumps(attacks["eval"], protocol))
    assert target.exists()


def test_nothing_is_imported(path: Path) -> None:
    for name in (Name("antigravity", "geohash"), Name("torch.nn", "Linear")):
        with pytest.raises(ValueError, match="neither imported nor run"):
            read_state(write(path, {"a": Call(name, ())}))
        assert name.module not in sys.modules
    with pytest.raises(ValueError, match="names '', which was neither imported nor"):
        read_state(write(path, b"]\x8c\x01a\x93"))  # a name in a list


def cases(message: str, *values: Any) -> list[tuple[Any, str]]:
    return [(value, message) for value in values]


BAD_TENSORS = [
    *cases(
        "expected arguments that fit what they build",
        *(Call(FLOATS, (6,)), Call("os.system", ("true",)), Call(EMPTY.called, 1)),
        *(Call(REBUILD, ()), Call(REBUILD, (1, 0, (6,), (1,), False, EMPTY))),
        Call(REBUILD, (*tensor().arguments, {"neg": True})),
        Call(PARAMETER, (storage(), True, EMPTY)),
    ),
    (Call(EMPTY.called, (1,)), "expected a dictionary that is made empty"),
    *cases(
        r"expected \('storage', type, key, device, count\)",
        storage("0", count=-6),
        *(Stored("0"), Stored(tensor()), Stored((tensor(), FLOATS, "0", "cpu", 6))),
        Stored(("storage", EMPTY.called, "0", "cpu", 6)),
        Stored(("storage", FLOATS, "0", "cpu", 6.0)),
        *(storage("../data/0"), storage("0\n"), storage("")),
    ),
    (storage("0", count=5), "record net/data/0 should have 20 bytes, got 24"),
    ([storage("0"), storage("0", "Int")], "one size and type of storage 0, 6"),
    (storage("0", "Double"), "record net/data/0 should have 48 bytes, got 24"),
    (storage("0", count=2**62), r"record net/data/0 should have 18\d* bytes"),
    (storage("1"), "expected a record net/data/1, got an archive without it"),
    *cases(
        "expected integers as offset, size and stride",
        *(tensor([6]), tensor((6.0,)), tensor((True,)), tensor(offset="0")),
    ),
    *cases(
        "expected no negative offset, size or stride",
        *(tensor((-6,)), tensor(stride=(-1,)), tensor(offset=-1)),
    ),
    *cases(
        "expected at most 32 sizes, each with a stride",
        *(tensor((6, 1)), tensor((1,) * 33, (1,) * 33)),
    ),
    *cases(
        "expected a view inside its 6 numbers",
        *(tensor((7,)), tensor((3,), (3,)), tensor((2,), (2**62,))),
        *(tensor(offset=1), tensor((), (), 6), tensor((), (), 2**70)),
    ),
    *cases(
        r"at most 4 times the bytes of the file .* clone\(\) of what was expanded",
        *(tensor((2**40, 2**40), (0, 0)), tensor((0, 2**40, 2**40), (0, 0, 0))),
        [tensor((400,), (0,))] * 3,
    ),
]


@pytest.mark.parametrize(("value", "message"), BAD_TENSORS)
def test_bad_tensors_are_named(path: Path, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"net\.pt: .*{message}"):
        read_state(write(path, {"a": value}, ONES))


DEEP = b")" + b"\x85" * 200_000
BAD_PICKLES = [
    (b"Nb", "expected what opcode BUILD takes"),
    (b"h\x07", "expected what opcode BINGET takes, got '7'"),
    (b"t", "expected what opcode TUPLE takes"),
    *cases("expected attributes of a dictionary only", b"}Nb", code(tensor()) + b"}b"),
    *cases("expected one value at the end of the pickle", b"}(", b"}}"),
    *cases("expected a list to append to, got None", b"NNa", b"N(Ne"),
    *cases("expected a dictionary with keys and values", b"]K\x00Ns", b"}(Nu"),
    *cases("expected strings or integers as keys", b"}" + DEEP + b"Ns", b"}NNs"),
    (b"X\xff\xff", "expected a whole pickle, got 'not enough"),
    (b"\xff", "expected a whole pickle"),
    *cases(
        "plain values and tensors, got '(OBJ|INST|EXT1|PERSID|NEWOBJ_EX|LONG4)",
        *(b"(ios\nsystem\n", b"\x82\x01", b"P0\n", b"N)}\x92", b"(N)o"),
        b"\x8b\x01\x00\x00\x00\x05",
    ),
    (b"(cos\nsystem\no", r"names 'os\.system', which was neither imported"),
    *cases(
        "expected arguments that fit what they build",
        *(b"N" + DEEP + b"R", b"K\x01\x85K\x01\x81"),
    ),
    (DEEP, "expected a dictionary of tensors, got tuple"),
    (code(tensor()), "expected a dictionary of tensors, got Tensor. Save `model"),
]


@pytest.mark.parametrize(("program", "message"), BAD_PICKLES)
def test_bad_pickles_are_named(path: Path, program: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"net\.pt: .*{message}"):
        read_state(write(path, program, ONES))


def test_names_are_bounded_and_different(path: Path) -> None:
    twice = {"a": {"b": tensor()}, "a.b": tensor()}
    with pytest.raises(
        ValueError, match=r"one tensor or value of a name, got 'a\.b' twice"
    ):
        read_state(write(path, twice, ONES))
    itself = b"}q\x00K\x00h\x00s"
    levels = [b"K%c}(K\x00h\x00K\x01h\x00uq\x00" % level for level in range(60)]
    doubled = b"}(K\xff}q\x00" + b"".join(levels) + b"u"
    message = "at most 100000 entries and dotted names of at most 1000 characters"
    for program in (itself, doubled, code({"a" * 1001: None})):
        with pytest.raises(ValueError, match=message):
            read_state(write(path, program))
    with pytest.raises(ValueError, match=r"net/data.pkl should have at most 4194304"):
        read_state(write(path, ["a" * 2**22]))


def test_old_and_other_files_are_named(path: Path) -> None:
    for content in (b"", b"PK", b"\x89HDF", pickle.dumps(1)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="began with a magic number, got one that"):
            read_state(path)
    with pytest.raises(ValueError, match="a PyTorch checkpoint that can be opened"):
        read_state(path.parent / "absent.pt")


def test_damaged_archives_are_named(path: Path) -> None:
    """Cut off anywhere, or one byte changed: an error of ours, or the same numbers."""
    whole = write(path, {"a": tensor()}, ONES, byteorder=b"little").read_bytes()
    for kept in range(4, len(whole)):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="expected a whole zip archive, got one"):
            read_state(path)
    named = []
    for place in range(4, len(whole)):
        changed = bytes([whole[place] ^ (0x01, 0x80, 0xFF)[place % 3]])
        path.write_bytes(whole[:place] + changed + whole[place + 1 :])
        try:
            np.testing.assert_array_equal(read_state(path)["a"], ONES)
        except ValueError as error:
            named.append(str(path) in str(error))
    assert named.count(True) == len(named) > 200
    path.write_bytes(whole.replace(ONES.tobytes(), (ONES + 1).tobytes()))
    with pytest.raises(ValueError, match="record net/data/0 is damaged"):
        read_state(path)


FOLDER = "expected all records in one folder, as"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        *((name, FOLDER) for name in ("../net/0", "/net/0", "net/../0", "net//0", "0")),
        ("net/data.pkl", "records of different names, got 2 with 1"),
    ],
)
def test_bad_names_of_records_are_named(path: Path, name: str, message: str) -> None:
    with zipfile.ZipFile(write(path, {}), "a") as file:
        file.writestr(name, b"")
    with pytest.raises(ValueError, match=message):
        read_state(path)
    assert [found.name for found in path.parent.iterdir()] == ["net.pt"]


def test_archives_that_grow_are_not_read(path: Path) -> None:
    with zipfile.ZipFile(write(path, {}), "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("net/data/0", bytes(10**6))
    with pytest.raises(
        ValueError, match=r"are not compressed and fit into .* got 1000"
    ):
        read_state(path)
    # Nor is one whose two sizes differ, for which room would be made.
    whole = bytearray(write(path, {"a": tensor()}, ONES).read_bytes())
    whole[whole.index(b"PK\x01\x02") + 20 + 3] = 64
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"not compressed and fit into .* got"):
        read_state(path)
    # Not compressed, it says, but of a size that the file does not have.
    whole = bytearray(write(path, {"a": tensor()}, ONES).read_bytes())
    entry = whole.rindex(b"PK\x01\x02")
    struct.pack_into("<II", whole, entry + 20, 2**31, 2**31)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"as torch\.save writes them, got 2147"):
        read_state(path)


def test_byte_orders_are_known(path: Path) -> None:
    with pytest.raises(ValueError, match="byteorder should be 'little' or 'big', got"):
        read_state(write(path, {}, byteorder=b"middle"))
    with pytest.raises(ValueError, match="byteorder should have at most 16 bytes"):
        read_state(write(path, {}, byteorder=b"little" * 9))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data/", b"")
    with pytest.raises(
        ValueError, match=r"record /data\.pkl, got an archive without it"
    ):
        read_state(path)


ZOOS = Path(__file__).parents[4] / "shared" / "data" / "zoos"
REAL = {
    "nfn_siren": (6, "net.0.linear.weight", (32, 2)),
    "dws_inr": (6, "seq.0.weight", (32, 2)),
    "small_transformer_zoo": (23, "embedding.conv1.weight", (32, 1, 4, 4)),
}


@pytest.mark.parametrize("folder", REAL)
def test_real_files(folder: str) -> None:
    """The numbers are those of the records, which PyTorch numbers in order."""
    paths = sorted((ZOOS / folder).rglob("*.pt*"))
    if not paths:
        pytest.skip(f"the shared {folder} checkpoints are not beside the checkout")
    for path in paths:
        got = read_state(path)
        count, name, shape = REAL[folder]
        assert (len(got), got[name].shape) == (count, shape)
        with zipfile.ZipFile(path) as file:
            names = [name for name in file.namelist() if "/data/" in name]
            for array, name in zip(got.values(), names, strict=True):
                assert array.tobytes() == file.read(name)
                assert array.dtype == np.float32
