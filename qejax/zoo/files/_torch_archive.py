"""The records of a checkpoint in the format of PyTorch 1.6 and later: a zip archive.

`<root>/data.pkl` says what the tensors are, `<root>/data/<key>` holds their numbers,
`<root>/byteorder` how. Sizes are checked before anything is read or allocated.
"""

import zipfile
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from qejax.zoo.files._pickle_program import SHORT

MAX_PICKLE = 4 * 2**20  # bytes; a tensor takes about 130 of them


class Records:
    """The files in an archive. They are looked up by name and never extracted.

    Raises:
        ValueError: if the archive is damaged, or is not as torch.save writes it.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        size = file.seek(0, 2)
        try:
            self._archive = zipfile.ZipFile(file)
        except Exception as error:  # more than `zipfile` documents
            raise ValueError(
                f"{path}: expected a whole zip archive, got one that cannot be read "
                f"({error}). Fetch the file again."
            ) from error
        infos = [i for i in self._archive.infolist() if not i.filename.endswith("/")]
        names = [info.filename for info in infos]
        self._sizes = {info.filename: info.file_size for info in infos}
        self._root = "".join(names[:1]).partition("/")[0]
        for name in names:
            parts = name.split("/")
            if parts[0] != self._root or {"", ".", ".."}.intersection(parts):
                raise ValueError(
                    f"{path}: expected all records in one folder, as torch.save writes "
                    f"them, got {name!r} beside {names[0]!r}. Do not use the file."
                )
        if len(self._sizes) != len(names):
            raise ValueError(
                f"{path}: expected records of different names, got {len(names)} with "
                f"{len(self._sizes)} names. Do not use the file."
            )
        # Of a stored record both sizes are one, and `zipfile` makes room for the other.
        packed = [
            info.filename
            for info in infos
            if info.compress_type != zipfile.ZIP_STORED
            or info.compress_size != info.file_size
        ]
        total = sum(self._sizes.values())
        if packed or total > size:
            raise ValueError(
                f"{path}: expected records that are not compressed and fit into the "
                f"file of {size} bytes, as torch.save writes them, got {total} bytes, "
                f"compressed: {SHORT.repr(packed)}. Use the file that was saved."
            )
        for one, two in pairwise(sorted(infos, key=lambda info: info.header_offset)):
            if one.header_offset + 30 + one.file_size > two.header_offset:
                raise ValueError(
                    f"{path}: expected records that follow each other, got "
                    f"{two.filename!r} inside {one.filename!r}. Do not use the file."
                )
        self.order = self._order()

    def _order(self) -> str:
        if f"{self._root}/byteorder" not in self._sizes:
            return "<"  # before PyTorch 2.1; PyTorch assumes the same
        found = self.read("byteorder", limit=16)
        if found not in (b"little", b"big"):
            raise ValueError(
                f"{self._path}: record byteorder should be 'little' or 'big', got "
                f"{found!r}. Fetch the file again."
            )
        return "<" if found == b"little" else ">"

    def check(self, name: str, size: int | None = None, limit: int = 2**63) -> str:
        """Returns the full name of a record of `size` bytes, or of at most `limit`.

        Raises:
            ValueError: if there is none, or it is of another size.
        """
        full = f"{self._root}/{name}"
        if full not in self._sizes:
            raise ValueError(
                f"{self._path}: expected a record {full}, got an archive without it. "
                f"Fetch the file again."
            )
        found = self._sizes[full]
        if found > limit or size not in (None, found):
            expected = f"at most {limit}" if size is None else size
            raise ValueError(
                f"{self._path}: record {full} should have {expected} bytes, got "
                f"{found}. Save the tensors alone, or fetch the file again."
            )
        return full

    def read(self, name: str, size: int | None = None, limit: int = 2**63) -> bytes:
        """Returns a record of `size` bytes, or of at most `limit`.

        Raises:
            ValueError: if there is none, or it is of another size or damaged.
        """
        full = self.check(name, size, limit)
        try:
            return self._archive.read(full)
        except Exception as error:  # more than `zipfile` documents
            raise ValueError(
                f"{self._path}: record {full} is damaged ({error}). Fetch it again."
            ) from error
