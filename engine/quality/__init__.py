"""What a KV cache's format does to a model's words, measured through the cache."""
