"""Readers: one file a source, each writing the study record that `studies.py` defines."""
