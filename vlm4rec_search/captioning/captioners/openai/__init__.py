"""Captioner that asks an OpenAI-compatible server."""
