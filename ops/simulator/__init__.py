"""Simulated tills and real data sets."""
