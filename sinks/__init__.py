"""The systems that documents are written to. `base` has the protocol, `registry.open_sink` opens a URL."""
