"""The embedded back ends: a durable broker in a SQLite file and breakers in this process. No server needed."""
