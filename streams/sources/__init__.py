"""Sources: what others send, made into events by contracts (`schemas.contract`)."""
