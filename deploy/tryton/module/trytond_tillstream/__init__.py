"""Point-of-sale documents from Tillstream: see docs/tryton.md of that project."""
