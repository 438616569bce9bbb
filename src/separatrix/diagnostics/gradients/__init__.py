"""Gradients through time and depth."""
