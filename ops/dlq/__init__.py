"""`tillstream dlq`: dead letters seen, understood, and taken through the line again."""
