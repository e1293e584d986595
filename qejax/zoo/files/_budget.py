"""What reading a file may cost: set by its size before anything of it is believed."""

MAX_STEPS = 2_000_000
"""Opcodes of all pickles in a file; a tensor takes about 30, a number one."""

MAX_COPIES = 4
"""Of the file, in all arrays together: views of a storage are copied."""


class Unfit(Exception):
    """What a part of a file should be and is not; its reader adds where that is."""

    def __init__(self, expected: str, found: object) -> None:
        super().__init__(expected, found)
        self.expected, self.found = expected, found


class Budget:
    """Steps and bytes that are left for a file."""

    def __init__(self, size: int) -> None:
        self._steps, self._bytes = MAX_STEPS, MAX_COPIES * size

    def step(self) -> None:
        """Takes one step of a pickle.

        Raises:
            Unfit: if none is left.
        """
        if not self._steps:
            raise Unfit(f"at most {MAX_STEPS} opcodes in a file", "more")
        self._steps -= 1

    def copy(self, size: int, found: object) -> None:
        """Takes the bytes of an array that is about to be made.

        Raises:
            Unfit: if there are fewer left; says what was `found`.
        """
        if size > self._bytes:
            raise Unfit(
                f"at most {MAX_COPIES} times the bytes of the file in all tensors "
                f"together, clone() of what was expanded",
                found,
            )
        self._bytes -= size
