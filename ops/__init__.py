"""The programs that people run: the command line, the simulated tills, the imports, the reports, the console."""
