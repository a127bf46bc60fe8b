"""The algorithm that sinks for ERPs behind an API share, and the log of their deliveries."""
