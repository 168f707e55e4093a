"""What `llmtop doctor` looks at, one subject a file."""
