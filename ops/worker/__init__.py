"""`tillstream run`: one worker, or several under a supervisor."""
