"""Point-of-sale documents from Tillstream: see docs/how-to/tryton.md of that project."""
