"""Residual networks and the flows they step along."""

ENTRIES = ()
