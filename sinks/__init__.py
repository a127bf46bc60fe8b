"""Where documents land: `base` is the protocol, every other module a system. `sinks.registry.open_sink` opens a URL."""
