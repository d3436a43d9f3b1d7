"""Hardware and /proc -> readings. Reads only: nothing in this room changes the machine, and nothing here talks to the network."""
