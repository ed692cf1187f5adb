"""The `sickbay` command: starts everything in one process, and talks to the three services over gRPC."""
