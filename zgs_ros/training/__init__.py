"""Trains the bundled mini models on the synthetic world."""
