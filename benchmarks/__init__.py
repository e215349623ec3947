"""Measurements of the service, as ratios to what it is built on."""
