"""Files that are written whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from qejax._disk import room


def replace_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes a file under another name, then gives it its own; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft-{os.getpid()}")
    try:
        with room(path), draft.open("wb") as file:
            write(file)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
