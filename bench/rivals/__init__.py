"""Other ways to do the POS job. They share nothing with Tillstream, and each runs in a process of its own."""
