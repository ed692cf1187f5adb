#!/bin/sh
# The health check of docker-compose's PostgreSQL. Once per container it also runs roles.sql, so that the services' users are there before the
# services start: in a new volume, and in one of a time when all of them shared a user.
set -eu
# Over TCP: while its image prepares a new database it answers on the socket file alone.
pg_isready -q -h 127.0.0.1 -U "$POSTGRES_USER"
done=/tmp/sickbay-roles
if [ ! -e "$done" ]; then
    PGPASSWORD=$POSTGRES_PASSWORD psql -q -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 \
        -v jobapi="$JOBAPI_PASSWORD" -v worker="$WORKER_PASSWORD" -v keeper="$KEEPER_PASSWORD" -f /sickbay/roles.sql
    touch "$done"
fi
