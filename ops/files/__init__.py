"""How files are read: for `inspect`, `import` and `map`."""
