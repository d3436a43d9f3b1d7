"""Prometheus exporters as sources of readings: one file per exporter, pure functions from a page to a Snapshot."""
