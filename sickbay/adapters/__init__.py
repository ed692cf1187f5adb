"""One folder for each technology; only here are drivers imported, and only `sickbay.runtime.backends` imports from here."""
