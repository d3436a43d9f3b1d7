"""The hub's HTTP face: routes, who may see them, and the pages kept ready. Never polls, never stores."""
