"""What a row of the schema holds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Variable"]


@dataclass(frozen=True)
class Variable:
    """What one variable of a result means."""

    name: str
    dims: str
    symbol: str
    long_name: str
    source: str
    units: str = "1"
