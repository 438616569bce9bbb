"""Recurrent networks."""

ENTRIES = ()
