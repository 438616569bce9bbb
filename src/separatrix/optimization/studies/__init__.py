"""Landscapes, and phenomena of training with the truth beside them."""
