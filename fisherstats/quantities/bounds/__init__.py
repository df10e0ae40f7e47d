"""Certified bounds, with the exact values alongside."""
