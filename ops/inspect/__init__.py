"""`tillstream inspect`: what a strange file or topic holds, and a first contract for it."""
