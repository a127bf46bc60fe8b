"""`tillstream top`: live state of the workers in a terminal."""
