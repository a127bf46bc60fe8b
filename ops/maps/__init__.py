"""`tillstream map`: test contracts on their examples, try them on a record, compare two on a topic."""
