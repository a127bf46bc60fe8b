"""Tryton, by JSON-RPC."""
