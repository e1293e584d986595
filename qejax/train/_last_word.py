"""What is said when a process is ended from outside, and cannot say it itself.

The library that watches the processes of a program aborts those that are left where one
is gone; the system kills others. No code of Python runs then: a shell that waits for
the end of the process says it.
"""

import atexit
import shutil
import subprocess


def say_if_killed(message: str) -> None:
    """Has a message printed to standard error if Python does not come to its end.

    An exception, `sys.exit` and the end of the program are ends of Python: nothing is
    printed then. Nor is it where there is no shell, or the shell is killed as well.

    Args:
        message: a line.
    """
    shell = shutil.which("sh")
    if shell is None:
        return
    # A pipe ends with the process that holds it, however that ends.
    waits = subprocess.Popen(
        [shell, "-c", 'read -r _ || echo "$1" >&2', "sh", message],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    atexit.register(waits.communicate, b"ended\n")
