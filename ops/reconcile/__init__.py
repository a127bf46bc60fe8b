"""Do tills and ERP agree? From the facts: the source topic, the dead letters and the ERP's own sums."""
