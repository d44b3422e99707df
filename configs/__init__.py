"""One file per experiment; data, never logic."""
