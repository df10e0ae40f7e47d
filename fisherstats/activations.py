"""The activations of the hidden layers: `fisherstats.models.activations` under its public name."""

from __future__ import annotations

from fisherstats.models.activations import *  # noqa: F403
from fisherstats.models.activations import __all__ as __all__
