"""`tillstream map`: contracts proved on examples, tried on a record, compared on a topic."""
