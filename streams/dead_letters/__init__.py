"""Dead letters: writing, reading, auditing, retrying and replaying them."""
