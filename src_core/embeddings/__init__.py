"""Embeddings that are computed once and kept."""

from src_core.embeddings.memory import EmbeddingCache

__all__ = ["EmbeddingCache"]
