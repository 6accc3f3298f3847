"""Synthetic microscopy stacks with instance labels, for training, tests and demos."""

from src_core.synthetic.stacks import FAMILIES, Stack, drawn_family, make_stack

__all__ = ["FAMILIES", "Stack", "drawn_family", "make_stack"]
