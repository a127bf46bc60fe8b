"""Detect personal data, and mask it."""
