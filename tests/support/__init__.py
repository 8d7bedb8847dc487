"""What tests share, and the tests of tnlayer.support."""
