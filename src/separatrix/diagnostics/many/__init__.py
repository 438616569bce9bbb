"""What many orbits show together: attractors, basins, their boundary, and diagrams over a parameter."""
