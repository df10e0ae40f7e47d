"""The most memory that a script takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# A child's `ru_maxrss` begins with what its parent took when it was made, so the child reads its own high-water mark.
_PRINT_PEAK = """
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])
"""


def peak_kib(script: str, *arguments: object) -> int:
    """Return the most memory that a script takes, in KiB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc to read what a process took")
    words = [sys.executable, "-c", script + _PRINT_PEAK, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])
