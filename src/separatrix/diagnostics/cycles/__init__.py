"""Closed orbits, and branches of points and cycles followed in a parameter."""
