"""Tests, in rooms that mirror those of tnlayer; tests/support has what they share."""

import pytest

# Assertions of shared checks show their values as those of tests do.
pytest.register_assert_rewrite("tests.support")
