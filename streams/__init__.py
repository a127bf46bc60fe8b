"""How sales flow. Read `pipeline` first: the whole way of a batch."""
