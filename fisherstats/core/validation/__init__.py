"""All argument validation and all message texts; no other part of the package contains error messages.

``arguments`` validates general arguments (words, counts, seeds), ``networks`` the weights and the fit
of the last layer to the family, ``inputs`` the data matrix and labels, ``capacity`` memory and engines.
"""
