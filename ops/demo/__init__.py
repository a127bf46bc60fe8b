"""`tillstream demo`: tills, a broker, a worker and an ERP database on one screen."""
