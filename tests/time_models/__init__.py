"""Tests of tnlayer.time_models."""
