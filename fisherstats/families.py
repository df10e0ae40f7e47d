"""The laws of the output: `fisherstats.models.families` under its public name."""

from __future__ import annotations

from fisherstats.models.families import *  # noqa: F403
from fisherstats.models.families import __all__ as __all__
