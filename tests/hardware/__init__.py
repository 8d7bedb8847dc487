"""Tests of tnlayer.hardware."""
