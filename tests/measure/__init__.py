"""Tests of tnlayer.measure."""
