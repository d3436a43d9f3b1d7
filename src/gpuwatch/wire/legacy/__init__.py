"""Other systems' protocols, one file each: pure functions between their JSON and our model. Never opens a connection."""
