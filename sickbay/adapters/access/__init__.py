"""Where principals come from: the access file, and the token of `sickbay up`."""
