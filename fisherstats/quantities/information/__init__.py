"""The information itself: exact, estimated, empirical, observed, as an operator."""
