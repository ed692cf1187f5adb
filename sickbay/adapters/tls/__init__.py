"""Certificates of our own ports, from files."""
