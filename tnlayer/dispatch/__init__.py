"""From a call to what runs it: backends for batch ranges, tuning, the short way."""
