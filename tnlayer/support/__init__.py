"""What every room may use and no field of science is needed for: messages, files, locks."""
