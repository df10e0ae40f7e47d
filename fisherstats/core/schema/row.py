"""The row type of the schema."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Variable"]


@dataclass(frozen=True)
class Variable:
    """Definition of one variable of a result."""

    name: str
    dims: str
    symbol: str
    long_name: str
    source: str
    units: str = "1"
