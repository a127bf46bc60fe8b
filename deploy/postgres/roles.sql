-- The roles, once, in the new database, as one who may create roles:
--   createdb --encoding UTF8 erp
--   psql --set ON_ERROR_STOP=1 --file deploy/postgres/roles.sql 'postgresql://postgres@db/erp'
-- Their passwords: \password tillstream, and so on. Then the migration, then grants.sql.

CREATE ROLE tillstream_owner LOGIN; -- of the migrations: owns the tables
CREATE ROLE tillstream LOGIN;       -- of the workers
CREATE ROLE tillstream_reader;      -- of those who read documents: GRANT tillstream_reader TO somebody

REVOKE ALL ON DATABASE erp FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE erp TO tillstream, tillstream_owner;
GRANT CONNECT ON DATABASE erp TO tillstream_reader;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO tillstream_owner;
GRANT USAGE ON SCHEMA public TO tillstream, tillstream_reader;
