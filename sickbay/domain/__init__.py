"""The types and decisions of the domain: frozen dataclasses and pure functions. Standard library only."""
