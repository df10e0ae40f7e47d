"""What users call, and what all of it shares: a run over the inputs, views, labels, lazy results."""
