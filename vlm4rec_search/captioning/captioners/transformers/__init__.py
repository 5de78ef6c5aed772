"""Captioner for image-text-to-text models on this machine."""
