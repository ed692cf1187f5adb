#!/bin/sh
# Renew the locks from pyproject.toml, with everything that runs (the extra `server`), for every supported Python, with hashes and without any package host in them.
set -eu
# Extras are kept, since pip takes `coverage==1` for no pin of a `coverage[toml]` that somebody needs.
compile() {
  uv pip compile --quiet --generate-hashes --no-header --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-strip-extras "$@"
}
# Building the project itself offline needs its build backend, so that is locked too.
# The tools first: what they need in an older version (schemathesis does) must be the version that runs, too.
compile pyproject.toml --extra server --group dev --output-file requirements-dev.lock
compile pyproject.toml --extra server --group build --constraint requirements-dev.lock --output-file requirements.lock
# These judge the deployment and share no environment with the rest.
compile --group deploy --output-file requirements-deploy.lock
