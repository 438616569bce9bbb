"""What is measured along one orbit: exponents, gradients, invariants, rotation, recurrence, survival."""
