"""Tests of tnlayer.dispatch."""
