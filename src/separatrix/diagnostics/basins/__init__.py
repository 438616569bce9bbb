"""Which start ends where: basins, their boundaries, and the separatrix."""
