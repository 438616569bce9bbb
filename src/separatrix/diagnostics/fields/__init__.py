"""What a field and its orbits keep: gradient and rotation, energy, volume."""
