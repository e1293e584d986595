"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def draft_of(path: Path) -> Iterator[BinaryIO]:
    """Opens a draft beside a file, and renames it to the file when all is written.

    If anything is raised until then the draft is removed and the file is as before.
    """
    draft = path.with_name(f"{path.name}.draft-{os.getpid()}")
    try:
        with draft.open("w+b") as file:
            yield file
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
