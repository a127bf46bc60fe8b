"""ERPNext, by Frappe's REST API."""
