"""Tests of embeddings kept in memory and on disk."""
