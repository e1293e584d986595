"""Ways to damage a file of a zoo, by name: a new way is a new row.

Nothing here runs what it writes. Programs of pickles are spelled out byte by byte, as
this code base never imports the module that would run them.
"""

import gzip
import io
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Rng = np.random.Generator
Mutator = Callable[[Path, Rng, Path], None]
"""Damages a file of the zoo around it; the last path is a file that no reader calls."""

NUMBERS = (
    *("-1", "0", "1", "9223372036854775808", "-9223372036854775809", "NaN", "1e308"),
    *("Infinity", "1e999", "9" * 5000, "4294967296", "null", "true", '"x"', "[]"),
    *("1000000000000", "0.5", "[[[]]]", "{}", "-0.0"),
)
NAMES = (
    *("../escape", "/fuzz-escape", "a\x00b", "n" * 5000, "..", "", "C:\\x"),
    *("../../../../etc/passwd", "a/../../b", "\u202e", "\ud7ff", "."),
)
CALLS = ("os system", "posix system", "subprocess Popen", "builtins eval")
MORE_CALLS = ("builtins exec", "nt system", "shutil rmtree", "numpy.core fromfile")
ZEROS = 1 << 28


def _edit(change: Callable[[bytearray, Rng], bytes | bytearray]) -> Mutator:
    def damage(path: Path, rng: Rng, sentinel: Path) -> None:
        del sentinel
        path.write_bytes(change(bytearray(path.read_bytes()), rng))

    return damage


def _place(raw: bytes | bytearray, rng: Rng) -> int:
    return int(rng.integers(0, max(1, len(raw))))


def _flip(raw: bytearray, rng: Rng) -> bytearray:
    for _ in range(int(rng.integers(1, 9))):
        if raw:
            raw[_place(raw, rng)] ^= 1 << int(rng.integers(8))
    return raw


def _run(raw: bytearray, rng: Rng) -> bytearray:
    at, size = _place(raw, rng), int(rng.integers(1, 17))
    fill = [b"\x00", b"\xff", b"\x7f", None][int(rng.integers(4))]
    raw[at : at + size] = rng.bytes(size) if fill is None else fill * size
    return raw


def _copy(raw: bytearray, rng: Rng) -> bytearray:
    at, size, to = _place(raw, rng), int(rng.integers(1, 200)), _place(raw, rng)
    raw[to:to] = raw[at : at + size]
    return raw


def _cut_out(raw: bytearray, rng: Rng) -> bytearray:
    at = _place(raw, rng)
    del raw[at : at + int(rng.integers(1, 40))]
    return raw


def _size(raw: bytearray, rng: Rng) -> bytearray:
    """A size as headers hold it: 2, 4 or 8 bytes, mostly near either end."""
    width = int(rng.choice([2, 4, 8]))
    near = int(rng.integers(0, 64)) % max(1, len(raw))
    at = [near, max(0, len(raw) - 64 + near), _place(raw, rng)][int(rng.integers(3))]
    value = [0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 2**40]
    chosen = value[int(rng.integers(len(value)))] % 2 ** (8 * width)
    raw[at : at + width] = chosen.to_bytes(width, "little")
    return raw


def _number(raw: bytearray, rng: Rng) -> bytes:
    return _replace(raw, rng, rb"-?\d+(?:\.\d+)?", NUMBERS)


def _name(raw: bytearray, rng: Rng) -> bytes:
    return _replace(raw, rng, rb"[A-Za-z_][A-Za-z_0-9./]{2,}", NAMES)


def _replace(
    raw: bytearray, rng: Rng, pattern: bytes, values: tuple[str, ...]
) -> bytes:
    whole = bytes(raw)
    packed = whole[:2] == b"\x1f\x8b"
    try:
        whole = gzip.decompress(whole) if packed else whole
    except (OSError, EOFError):
        packed = False
    hits = list(re.finditer(pattern, whole))
    if hits:
        hit = hits[int(rng.integers(len(hits)))]
        value = values[int(rng.integers(len(values)))].encode("utf-8", "replace")
        whole = whole[: hit.start()] + value + whole[hit.end() :]
    return gzip.compress(whole, 1) if packed else whole


def _deep(raw: bytearray, rng: Rng) -> bytes:
    depth = int(rng.choice([500, 5000, 100_000]))
    one = [b"[", b'{"a":', b"(", b"\x91", b"\x81\xa1a"][int(rng.integers(5))]
    nested = one * depth
    at = _place(raw, rng)
    return [nested, bytes(raw[:at]) + nested + bytes(raw[at:])][int(rng.integers(2))]


def _shape(raw: bytearray, rng: Rng) -> bytes:
    """A shape of absurd size, in the spelling of JSON and of the npy header."""
    big = [b"1000000000000", b"-4", b"2147483648, 2147483648", b"0, 99999999999"]
    value = big[int(rng.integers(len(big)))]
    hits = list(re.finditer(rb"(?<=[\[(])\d+(?:, ?\d+)*", bytes(raw)))
    if not hits:
        return bytes(_size(raw, rng))
    hit = hits[int(rng.integers(len(hits)))]
    return bytes(raw[: hit.start()]) + value + bytes(raw[hit.end() :])


def _program(rng: Rng, sentinel: Path) -> bytes:
    """A pickle that would make the file `sentinel`, in one of several spellings."""
    every = (*CALLS, *MORE_CALLS)
    module, name = every[int(rng.integers(len(every)))].split()
    said = f"touch {sentinel}"
    if name in ("eval", "exec"):
        said = f"open({str(sentinel)!r}, 'w')"
    text, head = said.encode(), b"\x80\x04"
    word = b"X" + len(text).to_bytes(4, "little") + text
    old = f"c{module}\n{name}\n".encode()
    new = b"".join(b"\x8c" + bytes([len(x)]) + x.encode() for x in (module, name))
    spellings = (
        old + b"(" + word + b"tR.",
        b"(" + word + f"i{module}\n{name}\n.".encode(),
        b"(" + old + word + b"o.",
        head + new + b"\x93" + word + b"\x85R.",
        head + new + b"\x93" + word + b"\x85\x81.",
        head + new + b"\x93)\x81" + word + b"b.",
        b"}(" + word + old + b"(" + word + b"tRu.",
    )
    return spellings[int(rng.integers(len(spellings)))]


def _hostile(path: Path, rng: Rng, sentinel: Path) -> None:
    """Puts a program where the file keeps its own, or in place of the file."""
    program = _program(rng, sentinel)
    raw = path.read_bytes()
    if raw[:2] == b"PK":
        _rezip(path, rng, lambda name, data: _infect(name, data, program))
        return
    code = f"__import__('os').system('touch {sentinel}')"
    head = f"{{'descr': {code}, 'fortran_order': False, 'shape': (2,)}}\n".encode()
    npy = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(16)
    whole = (program, program * 4, _object_array(program), npy, raw + program)
    path.write_bytes(whole[int(rng.integers(len(whole)))])


def _infect(name: str, data: bytes, program: bytes) -> bytes:
    if name.endswith(".npy"):
        return _object_array(program)
    return program if name.endswith(".pkl") else data


def _object_array(program: bytes) -> bytes:
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + program


def _rezip(path: Path, rng: Rng, change: Callable[[str, bytes], bytes]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        return _bits(path, rng, path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in inside.items():
            archive.writestr(name, change(name, data))


def _archive(path: Path, rng: Rng, sentinel: Path) -> None:
    """Names in an archive that lead out of it, come twice or are absurd."""
    raw = path.read_bytes()
    if raw[:2] != b"PK":
        return _names(path, rng, sentinel)
    with zipfile.ZipFile(path) as archive:
        inside = [(name, archive.read(name)) for name in archive.namelist()]
    at = int(rng.integers(len(inside)))
    name = NAMES[int(rng.integers(len(NAMES)))].replace("\x00", "") or "x"
    action = int(rng.integers(3))
    if action == 0:
        inside[at] = (name, inside[at][1])
    elif action == 1:
        inside.append((inside[at][0] + "/../" + name, inside[at][1]))
    else:
        inside[at] = (inside[at][0], inside[at][1][: len(inside[at][1]) // 2])
    with zipfile.ZipFile(path, "w") as archive:
        for one, data in inside:
            archive.writestr(one, data)


def _bomb(path: Path, rng: Rng, sentinel: Path) -> None:
    """Zeros that are a thousand times as large unpacked."""
    if path.read_bytes()[:2] != b"PK":
        path.write_bytes(BOMB)
        return
    with zipfile.ZipFile(path) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    victim = list(inside)[int(rng.integers(len(inside)))]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in inside.items():
            archive.writestr(name, data + bytes(1 << 26) if name == victim else data)


def _pack_zeros() -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as file:
        for _ in range(ZEROS >> 20):
            file.write(bytes(1 << 20))
    return packed.getvalue()


BOMB = _pack_zeros()


def _other(path: Path, rng: Rng, top: Path) -> Path:
    files = sorted(one for one in top.rglob("*") if one.is_file())
    return files[int(rng.integers(len(files)))] if files else path


def _swap(path: Path, rng: Rng, sentinel: Path) -> None:
    other = _other(path, rng, sentinel.parent / "case")
    ours, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(ours)


def _splice(path: Path, rng: Rng, sentinel: Path) -> None:
    theirs = _other(path, rng, sentinel.parent / "case").read_bytes()
    ours, at = path.read_bytes(), _place(theirs, rng)
    path.write_bytes(ours[: _place(ours, rng)] + theirs[at:])


def _gone(path: Path, rng: Rng, sentinel: Path) -> None:
    path.unlink()
    action = int(rng.integers(5))
    if action == 1:
        path.mkdir()
    elif action > 1:
        outside = sentinel.parent / "canary"
        path.symlink_to([outside / "a.txt", outside, path.name][action - 2])


def _folder_gone(path: Path, rng: Rng, sentinel: Path) -> None:
    if path.parent == sentinel.parent / "case":
        return _gone(path, rng, sentinel)
    shutil.rmtree(path.parent)
    if rng.integers(2):
        path.parent.symlink_to(sentinel.parent / "canary")


_bits, _names = _edit(_flip), _edit(_name)

MUTATORS: dict[str, Mutator] = {
    "bits": _bits,
    "run": _edit(_run),
    "truncated": _edit(lambda raw, rng: raw[: _place(raw, rng)]),
    "extended": _edit(lambda raw, rng: raw + rng.bytes(int(rng.integers(1, 300)))),
    "copied": _edit(_copy),
    "cut_out": _edit(_cut_out),
    "size": _edit(_size),
    "shape": _edit(_shape),
    "number": _edit(_number),
    "name": _names,
    "deep": _edit(_deep),
    "empty": _edit(lambda raw, rng: b""),
    "hostile": _hostile,
    "archive": _archive,
    "bomb": _bomb,
    "swapped": _swap,
    "spliced": _splice,
    "gone": _gone,
    "folder_gone": _folder_gone,
}
"""Mutators by name."""
