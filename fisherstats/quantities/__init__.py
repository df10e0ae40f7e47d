"""The public quantities and their common infrastructure: streaming over inputs, views, labels, lazy results."""
