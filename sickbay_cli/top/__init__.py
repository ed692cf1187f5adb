"""`sickbay top`: `readings` asks the services, `frame` compares two readings, `view` lays them out, `screen` is the live terminal."""
