"""Record digests or compare with recorded ones: ``python -m validation.digests record|compare FILE.json [--only NAME]``."""

import hashlib
import os
from pathlib import Path


def _own_kernels() -> None:
    """Keep compiled kernels in a folder named after their source: numba does not notice a change in another file."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for source in sorted(root.glob("fisherstats/**/*.py")):
        text = source.read_bytes()
        if b"numba" in text or source.parent.name == "engines":
            digest.update(text)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(root / ".numba_cache" / f"digests-{digest.hexdigest()[:16]}"))


if __name__ == "__main__":
    _own_kernels()  # before numba is imported
    from validation.digests.run import main

    raise SystemExit(main())
