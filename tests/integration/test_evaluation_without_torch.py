"""The systems of an evaluation on an installation without the optional dependency torch."""

import subprocess
import sys

PROGRAM = """
import sys
sys.modules["torch"] = None  # makes every import of torch fail
from vlm4rec_search.evaluation.systems import registry
assert "description+vision-gating" in registry()
"""


def test_systems_are_listed_without_torch() -> None:
    """The gate of a release lists no learned system, but it imports this registry."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
