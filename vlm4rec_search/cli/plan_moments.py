"""Builds the tables as of several moments in one process, since SQLMesh takes seconds to start.

A command of its own, `python -m vlm4rec_search.cli.plan_moments`, that `snapshots.Workbench` runs with the
settings of a workbench in the environment and with [[SQLMesh environment, moment], ...] as its argument.
"""

import json
import os
import sys

from sqlmesh import Context

from vlm4rec_search.common.settings import settings


def main(moments: list[tuple[str, str]]) -> None:
    """Plan each environment; the project's `config.py` reads the moment from the settings."""
    for environment, moment in moments:
        os.environ["VLM4REC_AS_OF"] = moment
        settings.cache_clear()
        context = Context(paths=[str(settings().require_project())])
        context.plan(
            environment,
            include_unmodified=True,
            auto_apply=True,
            no_prompts=True,
            skip_tests=True,
            skip_linter=True,
        )
        context.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
