"""The study of a network: from data to a report that says how well its Fisher information is known."""

from __future__ import annotations

from fisherstats.study.runner import finished, run

__all__ = ["finished", "run"]
