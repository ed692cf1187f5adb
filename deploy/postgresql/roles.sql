-- A user for each service, with the least that it needs. An administrator runs this in the ledger's database, as often as he likes:
--
--     psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -v jobapi=PASSWORD -v worker=PASSWORD -v keeper=PASSWORD -f roles.sql
--
--   keeper   the control plane: makes the tables, owns them and writes all of them
--   jobapi   reads jobs and writes idempotency keys (nothing at all where Redis keeps the keys)
--   worker   reads jobs and writes who is a suspect
--
-- jobapi and worker may do what the roles sickbay_jobapi and sickbay_worker may. The control plane grants these what they need whenever it
-- starts, also of tables that a newer version adds: so restart it after this. A password that is not given stays as it is.

SELECT format('CREATE ROLE %I NOLOGIN', name)
FROM unnest(ARRAY['sickbay_jobapi', 'sickbay_worker']) AS name
WHERE name NOT IN (SELECT rolname FROM pg_roles)
\gexec
SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['keeper', 'jobapi', 'worker']) AS name
WHERE name NOT IN (SELECT rolname FROM pg_roles)
\gexec
GRANT sickbay_jobapi TO jobapi;
GRANT sickbay_worker TO worker;

\if :{?keeper}
ALTER ROLE keeper PASSWORD :'keeper';
\endif
\if :{?jobapi}
ALTER ROLE jobapi PASSWORD :'jobapi';
\endif
\if :{?worker}
ALTER ROLE worker PASSWORD :'worker';
\endif

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO keeper;
GRANT USAGE ON SCHEMA public TO sickbay_jobapi, sickbay_worker;

-- Tables of a time when all services shared one user.
SELECT format('ALTER TABLE public.%I OWNER TO keeper', tablename)
FROM pg_tables
WHERE schemaname = 'public' AND tableowner <> 'keeper' AND tablename IN (
    'alembic_version', 'jobs', 'job_changes', 'job_revisions', 'job_duplicates', 'suspects', 'idempotency_keys',
    'write_check', 'incidents', 'incident_notices', 'audit_entries', 'job_results', 'job_progress', 'schedules', 'schedule_runs'
)
\gexec
