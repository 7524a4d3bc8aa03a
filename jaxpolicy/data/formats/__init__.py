"""Readers and writers, one module or two a dataset format."""
