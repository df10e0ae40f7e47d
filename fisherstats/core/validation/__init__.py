"""All argument validation and every message text; nothing else in the package words an error.

``arguments`` holds what any function may need (words, counts, seeds), ``networks`` the weights and the fit
of the last layer to the family, ``inputs`` the data matrix and labels, ``capacity`` memory and engines.
"""
