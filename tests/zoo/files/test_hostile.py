"""Files that mean harm: an error of ours, nothing run, little memory, no recursion.

The same programs are read as a plain pickle and inside both formats of PyTorch.
"""

import io
import os
import pickle
import pickletools
import struct
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qejax.zoo.files import _budget, _flat, read_pickle, read_torch
from qejax.zoo.files._torch_legacy import HEAD
from tests.zoo.files.torch_pickles import FLOATS, ONES, code, storage, tensor, write

VERSION = b"\x80\x02M\xe9\x03." + b"\x80\x02}."


def plain(path: Path, program: bytes, **kwargs: Any) -> Any:
    path.write_bytes(b"\x80\x04" + program + b".")
    return read_pickle(path, **kwargs)


def zipped(path: Path, program: bytes, **kwargs: Any) -> Any:
    write(path, program)
    return read_torch(path, **kwargs)


def old(path: Path, program: bytes, **kwargs: Any) -> Any:
    path.write_bytes(HEAD + VERSION + b"\x80\x02" + program + b"." + b"\x80\x02].")
    return read_torch(path, **kwargs)


READERS = (plain, zipped, old)
Reader = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.file"


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize("read", READERS)
def test_escapes_that_python_warns_of_are_not_the_readers(
    path: Path, read: Reader
) -> None:
    """Warnings are errors here."""
    program = b"S'a\\Xb'\n"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        pickletools.dis(b"\x80\x02" + program + b".", io.StringIO())
    assert heard
    with pytest.raises(ValueError, match="plain values and tensors, got 'STRING'"):
        read(path, program)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def attacks(target: Path) -> dict[str, bytes]:
    """Programs that make a file when they are run."""
    touch, make = text(f"touch '{target}'"), text(f"open({str(target)!r}, 'w').close()")
    system = b"cos\nsystem\n"
    namespace = b"ctypes\nSimpleNamespace\n)R}" + text("__setstate__") + system + b"sb"
    return {
        "GLOBAL": system + touch + b"\x85R",
        "STACK_GLOBAL": b"\x8c\x02os\x8c\x06system\x93" + touch + b"\x85R",
        "memo": b"\x8c\x06systemq\x07\x8c\x02osh\x07\x93" + touch + b"\x85R",
        "INST": b"(" + touch + b"ios\nsystem\n",
        "OBJ": b"(" + system + touch + b"o",
        "eval": b"cbuiltins\neval\n" + make + b"\x85R",
        "exec": b"c__builtin__\nexec\n" + make + b"\x85R",
        "call": b"csubprocess\ncall\n](X\x05\x00\x00\x00touch"
        + text(str(target))
        + b"e\x85R",
        "getattr": b"cbuiltins\ngetattr\ncposix\nsystem\nX\x08\x00\x00\x00__call__\x86R"
        + touch
        + b"\x85R",
        "BUILD": namespace + touch + b"b",
        "twice": b"}" + text("a") + system + touch + b"\x85Rs",
    }


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", attacks(Path("x")))
def test_nothing_is_run(path: Path, reader: Reader, name: str) -> None:
    target = path.with_name("made")
    program = attacks(target)[name]
    # Opcodes that are never followed; names that are never looked up.
    refused = {"INST": "plain values and tensors, got 'INST'"}
    with pytest.raises(ValueError, match=refused.get(name, "neither imported nor run")):
        reader(path, program)
    with pytest.raises(ValueError, match=r"a\.file"):
        reader(path, program, ignore=["b"], fields_of=["SimpleNamespace"])
    assert not target.exists()
    # A control: the same program does what it is here for.
    pickle.loads(b"\x80\x02" + program + b".")
    assert target.exists()


@pytest.mark.parametrize("reader", READERS)
def test_what_is_ignored_is_not_run_either(path: Path, reader: Reader) -> None:
    target = path.with_name("made")
    for name, attack in attacks(target).items():
        if name in ("INST", "OBJ", "memo"):  # the last leaves two values
            continue
        program = b"}(" + text("a") + attack + text("b") + b"K\x05u"
        got = reader(path, program, ignore=["a"])
        assert got == ({}, {"b": 5})
        with pytest.raises(ValueError, match="expected that only in parts to ignore"):
            reader(path, program, ignore=["b"])
    # What is done to an unknown object is ignored with it.
    made = b"ccollections\nChainMap\n)R"
    for change in (b"X\x01\x00\x00\x00xK\x01s", b"(Ne", b"Na", b"(NNu", b"}b", b")R"):
        program = b"}(" + text("a") + made + change + text("b") + b"K\x05u"
        assert reader(path, program, ignore=["a"]) == ({}, {"b": 5})
    assert not target.exists()


def test_a_record_is_no_way_in(path: Path) -> None:
    """A class that is read as fields is neither called nor imported."""
    target = path.with_name("made")
    call = attacks(target)["GLOBAL"]
    with pytest.raises(ValueError, match="an instance that is made without arguments"):
        plain(path, call, fields_of=["system"])
    fields = b"cantigravity\nGeo\n)\x81}" + text("a") + b"K\x01sb"
    assert plain(path, fields, fields_of=["Geo"]).fields == {"a": 1}
    assert "antigravity" not in sys.modules
    slots = fields[:-1] + b"N\x86b", b"cantigravity\nGeo\n)\x81N}\x86b"
    assert [plain(path, p, fields_of=["Geo"]).fields for p in slots] == [{"a": 1}, {}]
    for module in (b"copyreg", b"copy_reg"):
        first = b"c%b\n_reconstructor\n(cantigravity\nGeo\n" % module
        again = first + b"cbuiltins\nobject\nNtR}" + text("a") + b"K\x01sb"
        assert plain(path, again, fields_of=["Geo"]).fields == {"a": 1}
    for state in (b"]", b"K\x01", b"}}\x86", b"]}\x86", b"NN\x86"):
        with pytest.raises(ValueError, match="an instance whose state is a diction"):
            plain(path, b"cos\nGeo\n)\x81" + state + b"b", fields_of=["Geo"])
    assert not target.exists()


HUGE = struct.pack("<Q", 2**62)
DEEP = b"]" * 20_000 + b"a" * 19_999


def laughs() -> bytes:
    """Ten lists in ten lists in ten lists, ten times."""
    levels = [b"](" + b"h%c" % n * 10 + b"eq%c" % (n + 1) for n in range(10)]
    return b"}(K\x00](}eq\x00K\x01" + b"K\x01".join(levels) + b"u"


def shared() -> bytes:
    """A list of plain values, many times: one number each would be 400 million."""
    return b"}K\x00](](" + b"N" * 20_000 + b"eq\x00" + b"h\x00" * 20_000 + b"es"


BOMBS = {
    "long": (b"\x8b\xff\xff\xff\x7f", "expected a whole pickle"),
    "text": (b"\x8d" + HUGE, "expected a whole pickle"),
    "short text": (b"X\xff\xff\xff\x7fabc", "expected a whole pickle"),
    "bytes": (b"\x8e" + HUGE, "expected a whole pickle"),
    "bytearray": (b"\x96" + HUGE, "expected a whole pickle"),
    "line": (b"c" + b"a" * 100_000, "expected a whole pickle"),
    "not text": (b"X\x02\x00\x00\x00\xff\xff", "expected a whole pickle"),
    "deep": (DEEP, "expected a dictionary of tensors"),
    "deep inside": (b"}K\x01" + DEEP + b"s", "dotted names of at most 1000 char"),
    "marks": (b"(" * 20_000, "expected one value at the end of the pickle"),
    "its own": (b"}q\x00K\x00h\x00s", "dotted names of at most 1000 characters"),
    "own list": (b"}K\x00]q\x00h\x00as", "dotted names of at most 1000 characters"),
    "laughs": (laughs(), "at most 5000 entries"),
    "shared": (shared(), "at most 5000 entries"),
    "keys": (b"}(K\x00\x85q\x00h\x00u", "expected strings or integers as keys"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_do_not_go_off(
    path: Path, reader: Reader, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flat, "MAX_ENTRIES", 5000)  # it is slow to count memory
    program, message = BOMBS[name]
    with pytest.raises(ValueError, match=rf"a\.file.*{message}"):
        reader(path, program)


@pytest.mark.parametrize("reader", READERS)
def test_steps_are_counted(
    path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_budget, "MAX_STEPS", 1000)
    with pytest.raises(ValueError, match="at most 1000 opcodes in a file"):
        reader(path, b"}K\x00](" + b"N" * 1000 + b"es")


@pytest.mark.parametrize("reader", READERS)
def test_lies_that_change_nothing(path: Path, reader: Reader) -> None:
    """Lengths of frames and numbers of memos are not believed, nor need they be."""
    program = b"\x95" + HUGE + b"}r\xff\xff\xff\xffX\x01\x00\x00\x00aK\x05s"
    assert reader(path, program) == ({}, {"a": 5})


BEGIN = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
BUFFER = b"cnumpy._core.numeric\n_frombuffer\n"
SCALAR = b"cnumpy.core.multiarray\nscalar\n"
NODE = b"comegaconf.nodes\nIntegerNode\n"


def dtype(name: str = "f4", state: bytes = b"(K\x03X\x01\x00\x00\x00<NNNt") -> bytes:
    return b"cnumpy\ndtype\n" + text(name) + b"\x85R" + state + b"b"


def array(size: bytes, kind: bytes, content: bytes = b"C\x04abcd") -> bytes:
    return BUFFER + b"(" + content + kind + size + b"X\x01\x00\x00\x00CtR"


BAD_ARRAYS = [
    *(
        (dtype(name), "a type of floats, integers or b")
        for name in "O8 V8 M8 U2".split()
    ),
    (dtype("f4", b"}"), "a type that has a byte order and no parts"),
    (
        dtype("f4", b"(K\x03X\x01\x00\x00\x00<}NNt"),
        "a type that has a byte order and no",
    ),
    (array(b"K\x01\x85", b"N"), "an array that has a type"),
    (array(b"K\x01\x85", dtype(), b"N"), "bytes as the content of an array"),
    *(
        (array(size, dtype()), "at most 32 sizes as a shape")
        for size in (b"K\x01", b"J\xff\xff\xff\xff\x85", b"(" + b"K\x01" * 33 + b"t")
    ),
    *(
        (array(size, dtype()), "an array that fills its 4 bytes")
        for size in (b"K\x02\x85", b"\x8a\x08" + HUGE + b"\x85", b"K\x00\x85")
    ),
    (
        array(b"(K\x00" + (b"\x8a\x08" + HUGE) * 3 + b"t", dtype(), b"C\x00"),
        "an array that fills its 0 bytes",
    ),
    (BUFFER + b")R", "an array with bytes, a type, a shape and an order"),
    (BEGIN + b")b", "an array with a shape, a type, an order and bytes"),
    (b"cnumpy._core.multiarray\n_reconstruct\n)R", "an array that is begun empty"),
    (SCALAR + b")R", "a number with a type and bytes"),
    (SCALAR + dtype() + b"C\x03abc\x86R", "an array that fills its 3 bytes"),
    (b"c_codecs\nencode\n)R", "bytes as text in latin1"),
    (
        b"c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xac" + text("latin1") + b"\x86R",
        "bytes as text in latin1, got .*latin-1",
    ),
    (b"cbuiltins\nbytes\nK\x05\x85R", "bytes that are made from bytes"),
    (NODE + b"N\x85R", "a node that is made without arguments"),
    (NODE + b")R}b", "a node whose state has '_val'"),
    (b"N" + b"Q", "no persistent id outside of torch.save"),
]


@pytest.mark.parametrize(("program", "message"), BAD_ARRAYS)
def test_bad_arrays_are_named(path: Path, program: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.file, byte \d+: expected {message}"):
        plain(path, b"}K\x00" + program + b"s")


def test_copies_are_counted(path: Path) -> None:
    content = b"B" + struct.pack("<I", 4000) + bytes(4000) + b"q\x07"
    again = array(b"\x4d\xe8\x03\x85", dtype(), b"h\x07")
    first = array(b"\x4d\xe8\x03\x85", dtype(), content)
    with pytest.raises(ValueError, match="at most 4 times the bytes of the file in al"):
        plain(path, b"}K\x00](" + first + again * 4 + b"es")
    wide = tensor((400,), (0,))
    with pytest.raises(ValueError, match="tensor '0' should take at most 4 times the"):
        zipped_with(path, b"}K\x00" + code(wide) + b"s", ONES)


def zipped_with(path: Path, program: bytes, *data: np.ndarray) -> Any:
    return read_torch(write(path, program, *data))


def nested(content: bytes) -> bytes:
    body = b"B" + struct.pack("<I", len(content)) + content
    return b"ctorch.storage\n_load_from_bytes\n" + body + b"\x85R"


def test_archives_in_pickles_hold_one_storage(path: Path) -> None:
    stored = b"\x80\x02" + code(storage(count=6)) + b"."
    keys = b"\x80\x02](" + text("0") + b"e."
    whole = HEAD + VERSION + stored + keys + struct.pack("<q", 6) + ONES.tobytes()
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + nested(whole)
    rebuilt += b"K\x00K\x06\x85K\x01\x85\x89}tR"
    got = plain(path, b"}K\x00" + rebuilt + b"s")
    np.testing.assert_array_equal(got.tensors["0"], ONES, strict=True)
    dictionary = HEAD + VERSION + b"\x80\x02}." + b"\x80\x02]."
    message = "a storage as the bytes of a checkpoint"
    for content in (nested(dictionary), b"ctorch.storage\n_load_from_bytes\n)R"):
        with pytest.raises(ValueError, match=message):
            plain(path, content)
    twice = HEAD + VERSION + b"\x80\x02" + nested(whole) + b"." + keys
    with pytest.raises(ValueError, match=r"names 'torch\.storage\._load_from_bytes'"):
        plain(path, nested(twice))
    for cut in range(len(whole)):
        with pytest.raises(ValueError, match=r"a\.file"):
            plain(path, nested(whole[:cut]))


def test_bad_old_checkpoints_are_named(path: Path) -> None:
    body = b"\x80\x02" + code({"a": tensor()}) + b"."
    keys, count = b"\x80\x02](" + text("0") + b"e.", struct.pack("<q", 6)
    for whole, message in [
        (HEAD + b"K\x05." + b"}." + body + keys, "the magic number of PyTorch and ver"),
        (HEAD + VERSION + body + b"].", "expected the keys of the 1 storages"),
        (HEAD + VERSION + body + b"}.", "expected the keys of the 1 storages"),
        (HEAD + VERSION + body + b"](Ne.", "expected the keys of the 1 storages"),
        (HEAD + VERSION + body + keys, "storage 0 should have 6 elements in 24 byt"),
        (HEAD + VERSION + body + keys + count + bytes(23), "number and 23 bytes"),
        (HEAD + VERSION + body + keys + HUGE + bytes(24), "as their number and 24"),
    ]:
        path.write_bytes(whole)
        with pytest.raises(ValueError, match=message):
            read_torch(path)
    path.write_bytes(HEAD + VERSION + body + keys + count + ONES.tobytes())
    np.testing.assert_array_equal(read_torch(path).tensors["a"], ONES, strict=True)
    far = code(("storage", FLOATS, "0", "cpu", 2**61)) + b"Q"
    path.write_bytes(HEAD + VERSION + far + b"." + keys + struct.pack("<q", 2**61))
    with pytest.raises(ValueError, match="storage 0 should have 2305843009213693952"):
        read_torch(path)


def test_overlapping_records_are_named(path: Path) -> None:
    whole = bytearray(write(path, {"a": tensor()}, ONES, ONES).read_bytes())
    entry = whole.rindex(b"PK\x01\x02")
    place = whole.rindex(b"PK\x01\x02", 0, entry)
    whole[entry + 42 : entry + 46] = whole[place + 42 : place + 46]
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="records that follow each other, got 'net/d"):
        read_torch(path)


def test_packed_archives_are_not_unpacked(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("net/data.pkl", bytes(2**27))
    tracemalloc.clear_traces()
    tracemalloc.reset_peak()
    with pytest.raises(ValueError, match="records that are not compressed and fit"):
        read_torch(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("net/data.pkl", b"}.")
            file.writestr("net/data.pkl", b"N.")
    with pytest.raises(ValueError, match="records of different names, got 2 with 1"):
        read_torch(path)


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a pickle that can be opened, got"):
        read_pickle(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")  # to open it would be to wait for a writer
    for path in (tmp_path / "pipe", tmp_path):
        for read in (read_pickle, read_torch):
            with pytest.raises(ValueError, match="is no ordinary file"):
                read(path)


def test_what_is_compared_may_be_an_array(path: Path) -> None:
    """Nothing asks whether an array is equal to something, which is no yes or no."""
    wide = array(b"K\x01\x85", dtype())
    for program in (
        dtype("f4", b"(K\x03" + wide + b"NNNt"),
        BUFFER + b"(C\x04abcd" + dtype() + b"K\x01\x85" + wide + b"tR",
        BEGIN.replace(b"K\x00\x85", wide + b"\x85"),
        b"c_codecs\nencode\n" + text("a") + wide + b"\x86R",
        b"(" + text("storage") + code(FLOATS) + text("0") * 2 + b"K\x01" + wide + b"tQ",
    ):
        for reader in READERS:
            with pytest.raises(ValueError, match=r"a\.file.*byte \d+: expected"):
                reader(path, program)
