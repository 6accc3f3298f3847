"""Weights that ship with the package, and the registry of those that do not."""
