"""The store: what is kept of machines, snapshots, GPU states and events, by peewee on SQLite. Never renders, never asks a node."""
