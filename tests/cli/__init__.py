"""Tests of tnlayer.cli."""
