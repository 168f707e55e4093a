"""KV cache formats judged at the command line: `llmtop eval`, `tune` and `bench kv`."""
