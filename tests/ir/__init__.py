"""Tests of tnlayer.ir."""
