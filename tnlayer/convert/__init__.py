"""From modules that people have to layers of networks, near what was trained."""
