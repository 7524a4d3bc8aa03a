"""Tests, one folder per package. A regular package, so that no other `tests` is in its way."""
