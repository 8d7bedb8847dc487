"""Tests of tnlayer.lowering."""
