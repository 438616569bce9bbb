"""Points of rest: their stability, where they are, and the curve that parts their basins."""
