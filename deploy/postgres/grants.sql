-- What each role may do in the ERP database. As the owner of the tables, after every migration:
--   psql --set ON_ERROR_STOP=1 --file deploy/postgres/grants.sql 'postgresql://tillstream_owner@db/erp'
-- The roles are there before (docs/how-to/operate.md). A test runs a worker's sink with exactly these.

-- The worker: what it writes, and a temporary table for batches with repetitions. No TRUNCATE, no DDL.
GRANT SELECT, INSERT, UPDATE, DELETE
    ON documents, document_lines, document_payments, deliveries, conflicts TO tillstream;
GRANT SELECT ON tillstream_version TO tillstream;

-- Who reads documents: the ERP, reports.
GRANT SELECT
    ON documents, document_lines, document_payments, document_taxes, day_documents, day_lines, day_payments, deliveries
    TO tillstream_reader;
