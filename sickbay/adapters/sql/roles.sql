-- The least that each service needs on PostgreSQL. The owner of the tables runs this once, after the control plane has made them:
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f roles.sql
--     CREATE ROLE jobapi_1 LOGIN PASSWORD '...' IN ROLE sickbay_jobapi;
--
-- The control plane is the owner: it makes the tables and writes all of them. The others read, and each writes one table:
--   jobapi   idempotency_keys (nothing at all where Redis keeps the keys)
--   worker   suspects

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['sickbay_jobapi', 'sickbay_worker'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), name);
    END LOOP;
END
$$;

GRANT SELECT ON alembic_version, jobs, job_changes, job_duplicates TO sickbay_jobapi;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO sickbay_jobapi;

GRANT SELECT ON alembic_version, jobs TO sickbay_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON suspects TO sickbay_worker;
