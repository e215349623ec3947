"""Requests that nobody would think of, at a running service."""
