"""Tests of tnlayer.nn."""
