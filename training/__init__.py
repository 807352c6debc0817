"""Training, generation and scoring: the part that knows all others; nothing in the package imports it but the CLI."""
