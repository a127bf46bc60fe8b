"""PostgreSQL, written by COPY."""
