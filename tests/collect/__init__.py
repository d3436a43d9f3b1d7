"""Tests of the room that reads hardware and /proc."""
