"""``python -m fisherstats``."""

from __future__ import annotations

import sys

from fisherstats.cli import main

if __name__ == "__main__":
    sys.exit(main())
