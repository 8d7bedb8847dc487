"""Tests of tnlayer.topologies."""
