"""The service on a GPU machine: a sampler process that reads, a server that answers. Never imports store, query, notify or hub."""
