"""What can happen to the folder of compiled kernels: every call gives its numbers, with one warning in a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.caching import UserProvidedCacheLocator

KERNEL = """
from fisherstats.engines.kernel_cache import compiled

@compiled
def total(values):
    found = values[0] * 0
    for one in values:
        found += one
    return found
"""

SCRIPT = """
import warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import numpy as np
    from kernel import total
    assert total(np.arange(4.0)) == 6 and total(np.arange(5)) == 10 and total(np.arange(5.0)) == 10
for one in seen:
    print(one.category.__name__, one.message)
"""


def started(cache: Path, script: str = SCRIPT, environment: dict[str, str | None] | None = None) -> subprocess.Popen[str]:
    """Start a fresh process that calls a kernel with two types."""
    source = cache.with_name("source")
    source.mkdir(exist_ok=True)
    if not (source / "kernel.py").exists():
        (source / "kernel.py").write_text(KERNEL)
    path = os.pathsep.join([str(source), *sys.path])
    settings = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    given = {name: one for name, one in (settings | (environment or {})).items() if one is not None}
    return subprocess.Popen([sys.executable, "-c", script], env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def warned(cache: Path, script: str = SCRIPT, **environment: str | None) -> list[str]:
    """Return the warnings of such a process."""
    process = started(cache, script, environment)
    printed, failed = process.communicate(timeout=300)
    assert process.returncode == 0, failed
    return printed.splitlines()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kernels, and their source."""
    folder = tmp_path_factory.mktemp("filled")
    assert warned(folder / "kernels") == []
    return folder


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    """A copy of it; the folders in it are named after the place of the source."""
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    (old,) = (tmp_path / "kernels").iterdir()
    old.rename(old.with_name(UserProvidedCacheLocator.get_suitable_cache_subpath(str(tmp_path / "source" / "kernel.py"))))
    return tmp_path / "kernels"


def files(cache: Path, kind: str) -> list[Path]:
    found = list(cache.rglob(f"*.{kind}"))
    assert found
    return found


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_what_is_cut_short_is_compiled_anew(kind, cache):
    for file in files(cache, kind):
        os.truncate(file, file.stat().st_size // 2)
    (found,) = warned(cache)
    assert found.startswith("RuntimeWarning Kernels are recompiled")
    assert "NUMBA_CACHE_DIR" in found
    assert warned(cache) == []


DAMAGED = """
import os, pathlib, pickle
from fisherstats.core.validation import capacity
from fisherstats.engines import kernel_cache
def flip(data, place):
    return data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]
damages = [
    lambda data: b"",
    lambda data: data[:10],
    lambda data: data[:-1],
    lambda data: flip(data, len(data) // 2),
    lambda data: flip(data, len(data) - 40),
    lambda data: bytes(len(data)),
    lambda data: pickle.dumps(1),
    lambda data: b"hello" * 10,
]
folder = pathlib.Path(os.environ["NUMBA_CACHE_DIR"])
kept = {file: file.read_bytes() for file in folder.rglob("*.nb*")}
for kind in ("nbi", "nbc"):
    for number, damage in enumerate(damages):
        for file, data in kept.items():
            file.write_bytes(damage(data) if file.name.endswith(kind) else data)
        capacity._warned_of_kernels.clear()
        cache = kernel_cache._KernelCache(total.py_func)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for signature in total.signatures:
                found = cache.load_overload(signature, total.targetctx)
                assert found is None or (kind == "nbi" and tuple(found.signature.args) == signature), (kind, number)
                cache.save_overload(signature, total.overloads[signature])
                assert cache.load_overload(signature, total.targetctx) is not None, (kind, number)
        # What reads as another version of an index is no damage that could be seen.
        assert len(seen) == 1 or kind == "nbi" and not seen, (kind, number, seen)
"""


def test_whatever_the_damage_is(tmp_path):
    """Within one process, as one for each takes too long; what was compiled there can be kept again."""
    assert warned(tmp_path / "kernels", SCRIPT + DAMAGED) == []


EVERY_BYTE = """
import os, pathlib, warnings
from fisherstats.engines import kernel_cache
warnings.simplefilter("ignore")
(index,) = pathlib.Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nbi")
whole = index.read_bytes()
for place in range(0, len(whole), 2):
    index.write_bytes(whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :])
    for signature in total.signatures:
        found = kernel_cache._KernelCache(total.py_func).load_overload(signature, total.targetctx)
        assert found is None or tuple(found.signature.args) == signature
"""


@pytest.mark.validation
def test_every_byte_of_an_index_may_be_another(cache):
    assert warned(cache, SCRIPT + EVERY_BYTE) == []


def test_files_that_two_processes_have_exchanged_are_not_taken(cache):
    first, second = files(cache, "nbc")
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert warned(cache) == []


def test_a_missing_file_is_written_again(cache):
    for file in files(cache, "nbc"):
        file.unlink()
    assert warned(cache) == []
    assert len(files(cache, "nbc")) == 2


FULL = """
import builtins, errno
real = builtins.open
class Full:
    def __init__(self, file):
        self._file = file
    def __enter__(self):
        return self
    def __exit__(self, *raised):
        self._file.close()
    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")
def full(file, mode="r", *more, **names):
    opened = real(file, mode, *more, **names)
    return Full(opened) if "w" in mode and ".tmp." in str(file) else opened
builtins.open = full
"""


def test_a_full_disk(tmp_path):
    (found,) = warned(tmp_path / "kernels", FULL + SCRIPT)
    assert "No space left on device" in found
    assert not list(tmp_path.rglob("*.tmp.*"))


def test_damaged_files_on_a_full_disk(cache):
    for file in files(cache, "nbi"):
        file.write_bytes(b"")
    (found,) = warned(cache, FULL + SCRIPT)
    assert found.startswith("RuntimeWarning Kernels are recompiled")


NOWHERE = """
import tempfile
def refused(*given, **more):
    raise PermissionError(13, "Permission denied")
tempfile.TemporaryFile = refused  # how numba finds out; who runs the tests may be allowed to write everywhere
"""


def test_no_folder_that_can_be_written_to(tmp_path):
    (found,) = warned(tmp_path / "kernels", NOWHERE + SCRIPT)
    assert found.startswith("RuntimeWarning Kernels are recompiled, as there is no writeable folder for them")


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "kernels").write_text("mine")
    warned(tmp_path / "kernels")
    assert (tmp_path / "kernels").read_text() == "mine"


HOMELESS = """
import os, tempfile
os.path.expanduser = lambda path: path  # a user whom the system does not know
real = tempfile.TemporaryFile
def refused(*given, dir=None, **more):
    if "~" not in str(dir):
        raise PermissionError(13, "Permission denied")
    return real(*given, dir=dir, **more)
tempfile.TemporaryFile = refused
"""


def test_without_a_home_no_folder_of_its_name_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (found,) = warned(tmp_path / "kernels", HOMELESS + SCRIPT, HOME=None, XDG_CACHE_HOME=None)
    assert "there is no writeable folder for them" in found
    assert not (tmp_path / "~").exists()


def test_processes_that_write_at_the_same_time(tmp_path):
    running = [started(tmp_path / "kernels") for _ in range(3)]
    assert [one.communicate(timeout=300) for one in running] == [("", "")] * 3
    assert not any(one.returncode for one in running)
    assert warned(tmp_path / "kernels") == []


def test_the_kernels_of_the_package_are_kept_this_way():
    kernels = pytest.importorskip("fisherstats.engines.numba_kernels")
    kernel_cache = pytest.importorskip("fisherstats.engines.kernel_cache")
    compiled = [one for one in vars(kernels).values() if hasattr(one, "enable_caching")]
    assert all(isinstance(one._cache, kernel_cache._KernelCache) for one in compiled)
    assert len(compiled) > 5 or os.environ.get("NUMBA_DISABLE_JIT")
