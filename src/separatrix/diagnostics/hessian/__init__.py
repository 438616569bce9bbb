"""Curvature of an objective: its sharpest directions, trace, density, noise."""
