"""Fisher information: exact, estimated, empirical, observed, and as a linear operator."""
