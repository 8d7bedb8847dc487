"""Tests of tnlayer.passes."""
