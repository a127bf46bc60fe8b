"""Where documents land: `base` is the protocol, every other module a system. `sinks.connect.open_sink` opens a URL."""
