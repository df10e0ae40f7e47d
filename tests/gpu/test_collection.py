"""The tests for a GPU are collected where nothing but their own few libraries is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ABSENT = ["array_api_strict", "dask", "distributed", "h5py", "hypothesis", "jinja2", "matplotlib", "mpmath", "netCDF4", "sklearn"]
ABSENT += ["statsmodels", "torch", "tqdm", "zarr"]

PLUGIN = f"""
import sys
from importlib.machinery import PathFinder


class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {ABSENT!r} else super().find_spec(name, path, target)


sys.meta_path[:] = [Finder if one is PathFinder else one for one in sys.meta_path]
"""


def test_only_the_tests_for_a_gpu_are_imported(tmp_path):
    (tmp_path / "absent.py").write_text(PLUGIN, encoding="utf-8")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "absent", "-m", "gpu", "-q", "--collect-only", "-p", "no:cacheprovider"],
        cwd=root,
        env=os.environ
        | {
            "PYTEST_ADDOPTS": "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert files == {"tests/gpu/test_gpu.py"}
