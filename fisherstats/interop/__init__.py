"""Networks trained elsewhere, read as `MLP`.

Each reader takes the fitted object of one library and returns the exponential-family network with the same weights,
so that every quantity of this package is about the network that the user has.
"""

from __future__ import annotations

from fisherstats.interop.sklearn import from_sklearn

__all__ = ["from_sklearn"]
