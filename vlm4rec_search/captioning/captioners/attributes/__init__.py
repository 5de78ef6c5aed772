"""The captioner `attributes`: measures pixels and needs no model."""
