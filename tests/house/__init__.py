"""What the repository promises as a whole: imports, the public face, documents, replay, oracle."""
