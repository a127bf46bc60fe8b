"""Traces of batches, off by default."""
