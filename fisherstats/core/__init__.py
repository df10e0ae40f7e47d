"""Foundations of the package: errors, arrays, validation with all messages, the schema of results, references."""
