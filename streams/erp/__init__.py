"""The ERP's names for what tills say, and the rules by which dirt is cleaned, from a mapping (`schemas.mapping`)."""
