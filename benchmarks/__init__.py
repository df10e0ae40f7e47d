"""Times of the public calls beside their peers and the arithmetic; see README.md."""
