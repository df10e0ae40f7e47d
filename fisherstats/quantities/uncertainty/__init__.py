"""Uncertainty of estimates: variances, covariances, intervals, sample sizes, error propagation."""
