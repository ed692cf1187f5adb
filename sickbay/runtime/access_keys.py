"""The access file for the command `sickbay keys`."""

from sickbay.adapters.access.access_file import change_access_file, read_access_file

__all__ = ["change_access_file", "read_access_file"]
