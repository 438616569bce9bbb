"""What all questions are made of: coordinates of a state, matrix-free Jacobians, roots, Krylov spaces, spectra."""
