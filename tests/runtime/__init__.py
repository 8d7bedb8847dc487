"""Tests of tnlayer.runtime."""
