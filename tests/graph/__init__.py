"""Tests of tnlayer.graph."""
