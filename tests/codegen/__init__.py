"""Tests of tnlayer.codegen."""
