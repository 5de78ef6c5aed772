"""The built-in captioners, one package each."""
