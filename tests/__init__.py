"""All tests. A package, so that the project's own folders are found from wherever pytest is started."""
