"""Builds the tables as of several moments in one process, since SQLMesh takes seconds to start and to load a project.

A command of its own, `python -m vlm4rec_search.cli.plan_moments`, that `snapshots.Workbench` runs with the
settings of a workbench in the environment and with [[SQLMesh environment, moment], ...] as its argument.
"""

import ast
import json
import os
import sys

from sqlmesh import Context
from sqlmesh.core.constants import SQLMESH_VARS
from sqlmesh.core.model import Model
from sqlmesh.utils.metaprogramming import Executable

from vlm4rec_search.common.settings import settings
from vlm4rec_search.evaluation.snapshots import BUILT


def main(moments: list[tuple[str, str]]) -> None:
    """Plan each environment; the project's `config.py` reads the first moment from the settings."""
    context = None
    for environment, moment in moments:
        os.environ["VLM4REC_AS_OF"] = moment
        settings.cache_clear()
        if context is None:
            context = Context(paths=[str(settings().require_project())])
        else:
            set_moment(context)
        context.plan(
            environment,
            include_unmodified=True,
            auto_apply=True,
            no_prompts=True,
            skip_tests=True,
            skip_linter=True,
        )
        print(BUILT, flush=True)
    if context is not None:
        context.close()


def set_moment(context: Context) -> None:
    """Give the moment of the settings to the models of a loaded project that use it, as loading it anew would."""
    as_of = settings().as_of
    for model in list(context.models.values()):
        variables = _variables(model)
        if "as_of" in variables:
            variables["as_of"] = as_of.isoformat(sep=" ") if as_of else None
            changed = {**model.python_env, SQLMESH_VARS: Executable.value(variables, sort_root_dict=True)}
            context.upsert_model(model, python_env=changed)


def _variables(model: Model) -> dict[str, object]:
    """Return the variables of the project that a model uses."""
    used = model.python_env.get(SQLMESH_VARS)
    return dict(ast.literal_eval(used.payload)) if used else {}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
