"""Noising processes and what runs them back."""

ENTRIES = ()
