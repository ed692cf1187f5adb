"""Tells a webhook of incidents, over HTTP."""
