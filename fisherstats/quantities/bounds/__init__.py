"""Certified bounds, with the exact values."""
