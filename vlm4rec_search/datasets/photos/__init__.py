"""Photos of the catalogue: found in the folder or fetched from the web, and decoded."""
