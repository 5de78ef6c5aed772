"""Builds the tables as of several moments in one process, since SQLMesh takes seconds to start and to load a project.

A command of its own, `python -m vlm4rec_search.cli.build_moments`, that `snapshots.Workbench` runs with the settings
of a workbench in the environment and with [[SQLMesh environment, moment], ...] as its argument.

The models at and below histories.as_of are run as a plan runs them, in the schemas of the environment; of all other
tables the environment shows those of the warehouse. `sqlmesh plan` would take twice the time for it: it keeps a record
of what it builds and audits every table, and these tables are thrown away.
"""

import ast
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from duckdb import BinderException, CatalogException
from sqlglot import exp
from sqlmesh import Context, ExecutionContext
from sqlmesh.core.constants import SQLMESH_VARS
from sqlmesh.core.engine_adapter import EngineAdapter
from sqlmesh.core.model import Model
from sqlmesh.utils.metaprogramming import Executable

from vlm4rec_search.common.errors import first_line
from vlm4rec_search.common.settings import settings
from vlm4rec_search.common.warehouse import schema
from vlm4rec_search.evaluation.snapshots import BUILT

MOMENT = "histories.as_of"


def main(moments: list[tuple[str, str]]) -> None:
    """Build each environment; the project's `config.py` reads the first moment from the settings."""
    context = None
    for environment, moment in moments:
        os.environ["VLM4REC_AS_OF"] = moment
        settings.cache_clear()
        if context is None:
            context = Context(paths=[str(settings().require_project())])
        else:
            set_moment(context)
        build_tables(context, environment)
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


def build_tables(context: Context, environment: str) -> None:
    """Build the tables of an environment, which takes the place of an earlier one of this name."""
    adapter = context.engine_adapter
    names = {model.name: _place(model.name, environment) for model in context.models.values()}
    for layer in {place.partition(".")[0] for place in names.values()}:
        adapter.drop_schema(layer, ignore_if_not_exists=True, cascade=True)
        adapter.create_schema(layer)
    moment = context.get_model(MOMENT, raise_if_missing=True).fqn
    moving = {moment, *context.dag.downstream(moment)}
    tables = {model.fqn: names[model.name] for model in context.models.values()}
    places = _Places(adapter, names)
    for fqn in context.dag.sorted:
        model = context.models.get(fqn)
        if model is None:
            continue
        if fqn in moving:
            _run(model, adapter, places, tables)
        else:
            adapter.create_view(tables[fqn], exp.select("*").from_(model.name))


def _place(name: str, environment: str) -> str:
    layer, _, table = name.partition(".")
    return f"{schema(layer, environment)}.{table}"


def _run(model: Model, adapter: EngineAdapter, places: "_Places", tables: Mapping[str, str]) -> None:
    """Run a model into the table or view of its environment."""
    target, columns = tables[model.fqn], model.columns_to_types
    if not model.is_sql:
        adapter.create_table(target, columns)
        for frame in model.render(context=places):
            adapter.insert_append(target, frame, columns)
        return
    query = model.render_query_or_raise(table_mapping=tables, engine_adapter=adapter)
    if model.kind.is_materialized:
        adapter.ctas(target, query, columns, table_properties=model.physical_properties)
    else:
        adapter.create_view(target, query, columns)


class _Places(ExecutionContext):  # type: ignore[misc]  # sqlmesh has no types here
    """What Python models read: the tables of an environment."""

    def __init__(
        self, adapter: EngineAdapter, names: Mapping[str, str], variables: dict[str, Any] | None = None
    ) -> None:
        super().__init__(adapter, {}, default_dialect=adapter.dialect, variables=variables)
        self._names = names

    def resolve_table(self, model_name: str) -> str:
        """Return the table of a model."""
        return self._names[model_name]

    def with_variables(self, variables: dict[str, Any], blueprint_variables: dict[str, Any] | None = None) -> "_Places":
        """Return the same tables with the variables of a model."""
        return _Places(self.engine_adapter, self._names, variables)


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except (BinderException, CatalogException) as error:  # a table or a column that a model reads is missing
        sys.exit(f"{first_line(error)}: the models are newer than the tables, run `sqlmesh plan`")
