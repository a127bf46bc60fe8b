"""Mutation testing of the money path: change the code a little, and see whether a unit test notices."""
