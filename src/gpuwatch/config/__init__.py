"""Settings and the hosts file. ``load`` is the only reader of the environment."""
