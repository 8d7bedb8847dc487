"""Loop programs as C++."""
