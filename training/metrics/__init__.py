"""Metrics: plain functions over lists of reports."""
