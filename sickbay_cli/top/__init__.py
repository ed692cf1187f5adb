"""`sickbay top`: `readings` asks the services, `screen` is the live terminal; what they call is pure.

`memory` keeps the last readings, `frame` compares two of them, `view` and `as_json` present the result.
"""
