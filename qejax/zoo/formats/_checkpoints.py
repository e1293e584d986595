"""Which checkpoints of a training run are taken."""

ALL = "all"
"""Instead of a number: every one of every run."""


def asked(what: str, checkpoint: int | str | None) -> int | str | None:
    """Returns a checkpoint's number, however it was written; `ALL` and `None` stay.

    Args:
        what: of which format, for the message.
        checkpoint: as a user gives it.

    Raises:
        ValueError: if it is no number.
    """
    if checkpoint is None or checkpoint == ALL:
        return checkpoint
    try:
        return int(checkpoint)
    except ValueError as error:
        raise ValueError(
            f"checkpoint of {what}: expected a number or {ALL!r}, got {checkpoint!r}."
        ) from error
