"""The activations of the hidden layers: `fisherstats.model.activations` under its public name."""

from __future__ import annotations

from fisherstats.model.activations import *  # noqa: F403
from fisherstats.model.activations import __all__ as __all__
