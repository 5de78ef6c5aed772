"""The captioner `transformers`: image-text-to-text models on this machine."""
