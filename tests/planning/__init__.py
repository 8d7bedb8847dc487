"""Tests of tnlayer.planning."""
