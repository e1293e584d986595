"""JSON that others wrote: read up to a size, errors name the file."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """Returns the object in a file of at most `limit` bytes.

    Raises:
        ValueError: if it cannot be read, is larger, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ValueError(
            f"{path}: expected JSON that can be opened, got {error}. Check the path."
        ) from error
    if len(content) > limit:
        raise ValueError(
            f"{path}: expected at most {limit} bytes of JSON, got more. Fetch the file "
            f"again."
        )
    return parsed_object(str(path), content)


def parsed_object(where: str, content: bytes) -> dict[str, Any]:
    """Returns the object that a text in JSON is.

    Raises:
        ValueError: if it is no whole one.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where}: expected whole JSON, got {error}. Fetch the file again."
        ) from error
    if type(value) is not dict:
        raise ValueError(
            f"{where}: expected an object in braces as JSON, got "
            f"{type(value).__name__}. Fetch the file again."
        )
    return value
