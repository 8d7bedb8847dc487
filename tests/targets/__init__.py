"""Tests of tnlayer.targets."""
