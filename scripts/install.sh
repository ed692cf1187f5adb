#!/bin/sh
# Install exactly the locked packages, then this project: install.sh VENV LOCKFILE. The only step that needs the network.
set -eu
python=$1/bin/python
lock=$2
# The lock is complete. With dependencies, pip would look at a newer release of what is wanted with extras, and find no hash for it.
echo "Installing the packages of $lock (a minute or two, once) ..." >&2
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$lock" ||
  { echo "The packages of $lock could not be installed; check the network connection and repeat the command" >&2; exit 1; }
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
