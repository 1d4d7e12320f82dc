"""From embeddings to text."""
