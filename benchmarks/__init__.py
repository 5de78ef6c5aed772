"""Measures the package against what users would pick instead: `python -m benchmarks` writes results.md."""
