"""The service that gathers: asks every node, remembers, keeps the newest state. Never reads hardware, never speaks HTTP to people."""
