"""Builds the tables as of several moments in one process, since SQLMesh takes seconds to start and to load a project.

A command of its own, `python -m vlm4rec_search.cli.build_moments`, that `snapshots.Workbench` runs with the settings
of a workbench in the environment and with [[SQLMesh environment, moment], ...] as its argument.

The models at and below histories.as_of are run, in the schemas of the environment; of all other tables the environment
shows those of the warehouse. `sqlmesh plan` would take twice the time for it: it
keeps a record of what it builds and audits every table, and these tables are thrown away.
"""

import ast
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import duckdb
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlmesh import Context, ExecutionContext
from sqlmesh.core.constants import EPOCH, SQLMESH_VARS
from sqlmesh.core.dialect import normalize_model_name
from sqlmesh.core.engine_adapter import EngineAdapter
from sqlmesh.core.model import Model
from sqlmesh.utils.date import now
from sqlmesh.utils.errors import SQLMeshError
from sqlmesh.utils.metaprogramming import Executable

from vlm4rec_search.common.errors import RunError, Vlm4recError, first_line, innermost
from vlm4rec_search.common.settings import settings
from vlm4rec_search.common.warehouse import schema
from vlm4rec_search.evaluation.snapshots import BUILT
from vlm4rec_search.pipeline.project import model_names

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
    """Build the tables of an environment, which takes the place of an earlier one of this name.

    Raises:
        RunError: a model fails, or cannot be run as of a moment.
    """
    adapter = context.engine_adapter
    models = [context.models[fqn] for fqn in context.dag.sorted if fqn in context.models]
    moment = context.get_model(MOMENT, raise_if_missing=True).fqn
    moving = {moment, *context.dag.downstream(moment)}
    packaged = model_names()
    ours = {model.fqn for model in models if _name(model.fqn) in packaged}
    needed = ours.union(*(context.dag.upstream(fqn) for fqn in ours))  # of a shop's models only what ours read
    # An external table is no model's: it stays where it is.
    shown = [model for model in models if model.fqn in needed and not model.kind.is_external]
    tables = {model.fqn: _place(model.fqn, environment) for model in shown}
    for layer in {table.db for table in tables.values()}:
        adapter.drop_schema(layer, ignore_if_not_exists=True, cascade=True)
        adapter.create_schema(layer)
    places = _Places(adapter, tables, context.default_catalog)
    for model in shown:
        try:
            if model.fqn in moving or model.kind.is_embedded:
                _run(model, adapter, places, tables)
            else:
                adapter.create_view(tables[model.fqn], exp.select("*").from_(exp.to_table(model.fqn)))
        except (duckdb.Error, SQLMeshError, SqlglotError, Vlm4recError) as error:
            raise RunError(f"{model.name}: {_explain(error)}") from error


def _name(fqn: str) -> str:
    table = exp.to_table(fqn)
    return f"{table.db}.{table.name}"


def _place(fqn: str, environment: str) -> exp.Table:
    table = exp.to_table(fqn)
    return exp.table_(table.name, db=schema(table.db, environment), quoted=True)


def _run(model: Model, adapter: EngineAdapter, places: "_Places", tables: Mapping[str, exp.Table]) -> None:
    """Run a model into the table or view of its environment."""
    kind, target, columns = model.kind, tables[model.fqn], model.columns_to_types
    if not (kind.is_full or kind.is_view or kind.is_embedded or kind.is_incremental_by_time_range):
        raise RunError(f"a model of the kind {kind.name.value} cannot be run as of an earlier moment")
    # What a model reads ends at the moment, whatever the end of its interval is.
    times = {"start": EPOCH, "end": now(), "execution_time": settings().as_of}
    mapping = {fqn: table.sql(dialect=adapter.dialect) for fqn, table in tables.items()}
    adapter.execute(model.render_pre_statements(table_mapping=mapping, engine_adapter=adapter, **times))
    if not model.is_sql:
        adapter.create_table(target, columns)
        for frame in model.render(context=places, **times):
            adapter.insert_append(target, frame, columns)
        return
    query = model.render_query_or_raise(table_mapping=mapping, engine_adapter=adapter, **times)
    if kind.is_materialized:
        adapter.ctas(target, query, columns, table_properties=model.physical_properties)
    else:
        adapter.create_view(target, query, columns)


class _Places(ExecutionContext):  # type: ignore[misc]  # sqlmesh has no types here
    """What Python models read: the tables of an environment."""

    def __init__(
        self,
        adapter: EngineAdapter,
        tables: Mapping[str, exp.Table],
        catalog: str | None,
        variables: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(adapter, {}, default_dialect=adapter.dialect, default_catalog=catalog, variables=variables)
        self._tables = tables

    def resolve_table(self, model_name: str) -> str:
        """Return the table of a model."""
        fqn = normalize_model_name(model_name, self.default_catalog, self.default_dialect)
        name: str = self._tables[fqn].sql(dialect=self.default_dialect)
        return name

    def with_variables(self, variables: dict[str, Any], blueprint_variables: dict[str, Any] | None = None) -> "_Places":
        """Return the same tables with the variables of a model."""
        return _Places(self.engine_adapter, self._tables, self.default_catalog, variables)


def _explain(error: BaseException) -> str:
    """Return what is wrong in one line, and what to do where a table or a column is missing."""
    cause = innermost(error)
    line = first_line(cause)
    is_missing = isinstance(cause, (duckdb.BinderException, duckdb.CatalogException))
    return f"{line}; if models have changed since the last plan, run `sqlmesh plan`" if is_missing else line


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except Vlm4recError as error:
        sys.exit(f"Error: {error}")
    except (SQLMeshError, SqlglotError) as error:  # of the project
        sys.exit(f"Error: {_explain(error)}")
