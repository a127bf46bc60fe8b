"""From checked receipts to ERP documents, with the ERP's own codes where a mapping file gives them."""
