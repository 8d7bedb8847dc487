"""Tests of tnlayer.budget."""
