"""Questions and their answers: the newest state of every target, and the cluster as a view shows it. Never speaks HTTP, never writes."""
