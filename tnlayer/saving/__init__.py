"""Models as files: safetensors with the networks in the metadata."""
