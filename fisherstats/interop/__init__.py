"""Conversion of networks trained with other libraries to `MLP`.

Each converter takes the fitted object of one library and returns the exponential-family network with the same weights,
so that every quantity of this package refers to the user's network.
"""

from __future__ import annotations

from fisherstats.interop.sklearn import from_sklearn

__all__ = ["from_sklearn"]
