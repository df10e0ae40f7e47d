"""How well an estimate is known: variances, covariances, intervals, sample sizes, propagated errors."""
