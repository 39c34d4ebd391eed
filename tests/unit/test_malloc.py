"""What threads need for a moment to check passwords goes back to the system."""

import ctypes
import subprocess
import sys

import pytest

#: Prints the KiB that four threads keep of a password each.
_HASH = """
import threading
from pathlib import Path
from pilothouse.auth.passwords import hash_password
from pilothouse.malloc import bound_malloc

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

{first}
hash_password("the first one loads what it needs")
begin, end = threading.Barrier(5), threading.Barrier(5)

def check():
    begin.wait()
    hash_password("correct horse")
    end.wait()
    end.wait()

for _ in range(4):
    threading.Thread(target=check).start()
before = resident()
begin.wait()
end.wait()
print(resident() - before)
end.wait()
"""

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")


def kept(first: str) -> float:
    """Return the MiB that the threads keep if the process begins like this."""
    argv = [sys.executable, "-c", _HASH.format(first=first)]
    return int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout) / 1024


def test_threads_keep_nothing_of_the_passwords_that_they_checked():
    assert kept("assert bound_malloc()") < 4


def test_left_to_itself_the_allocator_keeps_it():
    assert kept("") > 30, "the limits are no longer needed"
