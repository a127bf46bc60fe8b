"""The algorithm and the tables that all SQL sinks share."""
