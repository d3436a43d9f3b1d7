"""Pure decisions: facts in, verdict out. Never reads a clock, a file, the network or the store."""
