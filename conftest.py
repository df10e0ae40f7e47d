"""Keep compiled kernels of the test run apart from all others.

numba does not notice that a function called from another file has changed. A cache directory named after the source of
all kernels can hold nothing stale. It has to be named before numba is imported, hence here and not in a fixture.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

import pytest

_root = Path(__file__).parent
_digest = hashlib.sha256()
for _source in sorted(_root.glob("fisherstats/engines/*.py")):
    _digest.update(_source.read_bytes())
os.environ["NUMBA_CACHE_DIR"] = str(_root / ".numba_cache" / _digest.hexdigest()[:16])

os.environ.setdefault("KERAS_BACKEND", "torch")  # of the backends the one that other tests need anyway

_EXAMPLES_NEED = {
    "keras.py": "keras",
    "onnx.py": "onnx",
    "safetensors.py": "safetensors",
    "statsmodels.py": "statsmodels",
    "torch.py": "torch",
    "torch_results.py": "torch",
    "unfolding.py": "torch",
}
"""Modules of fisherstats/interop -> the library that their examples import."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip examples of libraries that are not installed, by name."""
    for item in items:
        library = _EXAMPLES_NEED.get(item.path.name) if item.path.parent == _root / "fisherstats" / "interop" else None
        if library is not None and importlib.util.find_spec(library) is None:
            item.add_marker(pytest.mark.skip(reason=f"could not import {library!r}"))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Skip the examples of files of networks where their library is not installed."""
    if item.name.startswith("fisherstats.models.network.MLP.") and item.name.endswith((".save", ".load")):
        found = importlib.util.find_spec("safetensors") is not None
        item.add_marker(pytest.mark.skipif(not found, reason="could not import 'safetensors'"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect tests/gpu alone for `-m gpu`: machines with a device often lack what other test files import."""
    wanted = _root / "tests" / "gpu"
    alone = config.getoption("markexpr").strip() == "gpu"
    return (
        True
        if alone and wanted not in (collection_path, *collection_path.parents) and collection_path not in wanted.parents
        else None
    )
