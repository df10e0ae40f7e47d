"""End-to-end study of a network: from data to a report on the accuracy of its estimated Fisher information."""

from __future__ import annotations

from fisherstats.study.runner import finished, run

__all__ = ["finished", "run"]
