#!/bin/sh
# What the image runs: programs by their names (python, sickbay, sh, /any/path), everything else as a verb of the `sickbay` command.
set -eu
case "${1:-}" in
  python | python3 | sickbay | sh | bash | /*) exec "$@" ;;
  # In a container, localhost is nobody's; options that follow win.
  up) shift && exec sickbay up --host 0.0.0.0 --data "$DATA_DIR" "$@" ;;
  *) exec sickbay "$@" ;;
esac
