"""Photos of the catalogue: located in the data folder or fetched from the web, hashed, and decoded."""
