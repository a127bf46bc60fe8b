"""The benchmark job and who runs it: `python -m bench`, and `python -m bench.inprocess` for the line alone."""
