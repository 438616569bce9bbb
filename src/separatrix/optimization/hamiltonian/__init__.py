"""Momentum as mechanics: conformal Hamiltonian flows, kinetic energies, the Bregman family, high resolution."""
