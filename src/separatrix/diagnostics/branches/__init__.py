"""What changes with a parameter: diagrams, and branches with their special points."""
