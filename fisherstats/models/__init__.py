"""The statistical model: activations, families, the network and its derivatives."""
