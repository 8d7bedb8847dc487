"""Tests of tnlayer.report."""
