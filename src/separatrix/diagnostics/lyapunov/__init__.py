"""Lyapunov exponents and covariant vectors of any orbit."""
