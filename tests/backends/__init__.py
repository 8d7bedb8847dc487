"""Tests of tnlayer.backends."""
