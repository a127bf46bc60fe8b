"""Odoo, by JSON-2 or JSON-RPC."""
