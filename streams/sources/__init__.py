"""Sources: contracts (`schemas.contract`) that turn other systems' records into sale events."""
