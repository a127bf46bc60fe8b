"""The data that flows: sale events from the tills, documents for the ERP, dead letters. Models only, no I/O."""
