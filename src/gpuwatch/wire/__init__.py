"""Model types to bytes and back, and bytes over HTTP. Never decides anything about what it carries."""
