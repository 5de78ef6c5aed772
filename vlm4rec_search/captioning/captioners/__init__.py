"""The captioners that come with the package."""
