"""Reconcile tills and ERP from the facts: the source topic, the dead letters and the ERP's own sums."""
