"""Embeddings that are computed once and kept, in memory or on disk beside the image."""

from src_core.embeddings.memory import EmbeddingCache
from src_core.embeddings.store import EmbeddingStore, Filled, pays

__all__ = ["EmbeddingCache", "EmbeddingStore", "Filled", "pays"]
