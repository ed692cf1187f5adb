"""One folder for each technology; only here are drivers imported, and only `sickbay.backends` imports from here."""
