"""Anthropomorphic phantoms drawn from a generator: different patients, every lesion known exactly."""
