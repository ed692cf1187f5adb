#!/bin/sh
# Make the virtual environment: venv.sh PYTHON FOLDER. One clear sentence if this machine cannot.
set -eu
python=$1
folder=$2
command -v "$python" >/dev/null || { echo "Sickbay needs Python 3.11 or newer, and there is no '$python' here; install it, or use make PYTHON=/path/to/python3" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Sickbay needs Python 3.11 or newer, '$python' is $("$python" -V); use make PYTHON=/path/to/python3" >&2; exit 1; }
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  # Debian and Ubuntu ship venv as a package of its own.
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing python3-venv ..." >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; } >/dev/null 2>&1 || true
  fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null || { echo "This Python has no venv module; install it first: sudo apt-get install python3-venv" >&2; exit 1; }
fi
"$python" -m venv "$folder"
