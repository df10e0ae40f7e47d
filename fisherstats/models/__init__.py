"""Statistical model: activations, families, the network and its derivatives."""
