"""Descent with noise: heat baths, stationary covariance, escapes."""
