"""From masks on slices to the objects of a stack, linked for the whole stack at once or propagated from seeds."""

from src_core.linking.graph import Links
from src_core.linking.report import FoundObject, StackReport
from src_core.linking.run import segment_stack, stack_steps
from src_core.linking.settings import LinkSettings

__all__ = ["FoundObject", "LinkSettings", "Links", "StackReport", "segment_stack", "stack_steps"]
