"""`tillstream inspect`: describe an unknown file or topic, and draft a first contract for it."""
