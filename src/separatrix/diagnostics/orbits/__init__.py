"""Where orbits rest and return: fixed points, cycles, rotation, recurrence."""
