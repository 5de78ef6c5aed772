"""The captioner `openai`: captions by an OpenAI-compatible server."""
