"""The papers and their numbered statements: the single definition of all citations.

A schema row names a key of `SOURCES`; labels print it as the `source` and `assumptions` attributes.
"""

from __future__ import annotations

from fisherstats.core.references.applications import APPLICATIONS
from fisherstats.core.references.bounds import BOUNDS
from fisherstats.core.references.estimation import ESTIMATION
from fisherstats.core.references.papers import PAPERS
from fisherstats.core.references.source import Source

__all__ = ["PAPERS", "SOURCES", "Source", "citation"]

SOURCES = {**ESTIMATION, **BOUNDS, **APPLICATIONS}


def citation(key: str) -> str:
    """Return 'statement: formula (paper)' for a key."""
    source = SOURCES[key]
    return f"{source.statement}: {source.formula} [{PAPERS[source.paper]}]"
