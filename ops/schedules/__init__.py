"""`tillstream schedule`: imports and reconciliations at the times that the settings say."""
