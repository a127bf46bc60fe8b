"""Dead letters read back: what they say, what was done about them, and their way through the line again."""
