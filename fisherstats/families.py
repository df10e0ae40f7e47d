"""The laws of the output: `fisherstats.model.families` under its public name."""

from __future__ import annotations

from fisherstats.model.families import *  # noqa: F403
from fisherstats.model.families import __all__ as __all__
