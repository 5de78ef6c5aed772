"""`sqlmesh plan` beside bare DuckDB that runs the same SQL; publication, and the peak memory of the main commands."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.commands import PLAN, SETTINGS, VLM4REC, Finished, execute, project_in
from benchmarks.measure import Act, Contest, Costs, Value

EVENTS = np.array(["view", "cart", "purchase", "return"])
SHARES = (0.7, 0.15, 0.13, 0.02)
DAYS = 365 * 86_400  # a year, seconds
OF_ITEM, OF_SHOPPER = 50, 40  # interactions

RENDER = """
import json, sys
from sqlmesh import Context
context = Context(paths=".")
models = []
for fqn in context.dag.sorted:
    model = context.get_model(fqn)
    if model is None:
        continue
    sql = None
    if model.is_sql:
        query = model.render_query(engine_adapter=context.engine_adapter, execution_time="now")
        sql = query.sql(dialect="duckdb")
    models.append((model.view_name, model.schema_name, model.kind.name.value, sql))
json.dump(models, open(sys.argv[1], "w"))
"""


def write_shop(folder: Path, interactions: int) -> pa.Table:
    """Write items and interactions of a year, and return the interactions."""
    items = interactions // OF_ITEM
    write_items(folder, items)
    log = make_interactions(items, interactions, interactions // OF_SHOPPER, 0, np.random.default_rng(7))
    pq.write_table(log, folder / "interactions.parquet")
    return log


def write_items(folder: Path, items: int) -> None:
    """Write items with titles of six words out of 5,000, in 40 categories."""
    rng = np.random.default_rng(7)
    words = np.array([f"word{word:04d}" for word in range(5_000)])
    titles = [" ".join(row) for row in words[rng.integers(0, len(words), (items, 6))]]
    ids = [f"i{item:05d}" for item in range(items)]
    categories = [f"category {item % 40}" for item in range(items)]
    pq.write_table(pa.table({"item_id": ids, "title": titles, "category": categories}), folder / "items.parquet")


def make_interactions(
    items: int, rows: int, users: int, since: int, rng: np.random.Generator, during: int = DAYS
) -> pa.Table:
    """Return interactions of the first users in `during` seconds after `since`, most of them with popular items."""
    user = rng.integers(0, users, rows)
    item = (items * rng.random(rows) ** 2).astype(np.int64)
    seconds = (since + rng.integers(0, during, rows)).astype("datetime64[s]")
    columns = {
        "user_id": np.char.add("u", user.astype(str)),
        "item_id": np.char.add("i", np.char.zfill(item.astype(str), 5)),
        "timestamp": seconds,
        "event_type": EVENTS[rng.choice(len(EVENTS), rows, p=SHARES)],
    }
    return pa.table(columns)


def model_seconds(output: str) -> dict[str, float]:
    """Return the seconds of each model, as SQLMesh reports them."""
    return {name: float(spent) for name, spent in re.findall(r"\] (\w+\.\w+)\s+\[[^]]*\]\s+([\d.]+)s", output)}


class Shop:
    """A made shop in a project that is planned once; further plans run in copies."""

    def __init__(self, folder: Path, interactions: int) -> None:
        """Write the shop and plan it."""
        self.folder, self._numbers = folder, count()
        self.planned = project_in(folder / "planned")
        self._log = write_shop(self.planned / "data", interactions)
        self._interactions = interactions
        self.bytes = sum(path.stat().st_size for path in (self.planned / "data").iterdir())
        self.empty = folder / "empty"
        shutil.copytree(self.planned, self.empty)
        self.last: dict[str, Finished] = {"first": execute(PLAN, self.planned)}

    def first(self) -> Value:
        """Plan into an empty warehouse."""
        return self._plan("first", self.empty)

    def more(self) -> Value:
        """Plan after 1% more interactions of 1% of the shoppers."""
        rng, users = np.random.default_rng(8), max(1, self._interactions // OF_SHOPPER // 100)
        items = self._interactions // OF_ITEM
        more = make_interactions(items, max(1, self._interactions // 100), users, DAYS, rng)
        return self._plan("more", self.planned, pa.concat_tables([self._log, more]))

    def _plan(self, name: str, source: Path, log: pa.Table | None = None) -> Value:
        place = self.folder / f"{name}-{next(self._numbers)}"
        shutil.copytree(source, place)
        if log is not None:
            pq.write_table(log, place / "data" / "interactions.parquet")
        self.last[name] = execute(PLAN, place)
        shutil.rmtree(place)
        return Value(self.last[name].seconds)

    def run(self, name: str, *command: str) -> Value:
        """Run a command in the planned project."""
        self.last[name] = execute(command, self.planned)
        return Value(self.last[name].seconds)

    def peak(self, name: str) -> Value:
        """Return the peak memory of the last such command."""
        return Value(self.last[name].peak)

    def costs(self, name: str) -> Costs:
        """Return the largest costs: the slowest models, and all the rest of the command, as shares of it."""
        done = self.last[name]
        models = model_seconds(done.output)
        parts = {**models, "start, state and all else beside models": done.seconds - sum(models.values())}
        largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
        return [(part, round(spent / done.seconds, 3)) for part, spent in largest]


def bare_duckdb(shop: Shop, models: list[tuple[str, str, str, str | None]]) -> Act:
    """Return a run of the SQL of all models in their order, in a new database that has the tables of Python models."""
    warehouse = next(path for path in shop.planned.rglob("*.duckdb") if path.stem == "warehouse")
    template = shop.folder / "bare" / "template" / warehouse.name
    template.parent.mkdir(parents=True)
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        connection.execute(f"ATTACH '{template}' AS bare (READ_WRITE)")
        for schema in {schema for _, schema, *_ in models}:
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS bare."{schema}"')
        for name, schema, _, sql in models:
            if sql is None:
                connection.execute(f'CREATE TABLE bare."{schema}"."{name}" AS FROM "{schema}"."{name}"')
    work = template.parents[1] / warehouse.name

    def act() -> Value:
        shutil.copy(template, work)
        with inside(shop.planned), duckdb.connect(str(work)) as connection:
            started = time.perf_counter()
            for name, schema, kind, sql in models:
                if sql is not None:
                    form = "VIEW" if kind == "VIEW" else "TABLE"
                    connection.execute(f'CREATE {form} "{schema}"."{name}" AS {sql}')
            connection.execute("CHECKPOINT")
            return Value(time.perf_counter() - started)

    return act


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder: the SQL of the raw tables names files in it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def planning(interactions: int) -> Iterator[Contest]:
    """Plan, publish, search and recommend."""
    with TemporaryDirectory() as name:
        shop = Shop(Path(name), interactions)
        into = shop.folder / "models.json"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("VLM4REC_")} | SETTINGS
        subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-c", RENDER, str(into)], cwd=shop.planned, env=environment, check=True
        )
        models = json.loads(into.read_text("utf-8"))
        in_sql = {f"{schema}.{table}" for table, schema, _, sql in models if sql is not None}

        def sql_models() -> Value:
            spent = model_seconds(shop.last["first"].output)
            return Value(sum(seconds for model, seconds in spent.items() if model in in_sql))

        contest = Contest(rounds=(2, 2))
        contest.ours("first plan", shop.first, costs=lambda: shop.costs("first"), warm=False)
        contest.ours("SQL models of the plan", sql_models, costs=lambda: [], warm=False)
        contest.ours("plan, 1% more", shop.more, costs=lambda: shop.costs("more"), warm=False)
        contest.ours("plan, no change", lambda: shop.run("again", *PLAN), costs=lambda: [], warm=False)
        publish = (*VLM4REC, "index", "--force", "--no-choose")
        contest.ours("publication", lambda: shop.run("publication", *publish), costs=lambda: [], warm=False)
        search = (*VLM4REC, "search", "--user", "u1")
        contest.ours("search command", lambda: shop.run("search", *search), costs=lambda: [], warm=False)
        recommend = (*VLM4REC, "recommend", "--all", "--to", "r.parquet")
        contest.ours("recommend --all", lambda: shop.run("recommend", *recommend), costs=lambda: [], warm=False)
        contest.rival(
            "bare DuckDB, same SQL",
            lambda: bare_duckdb(shop, models),
            ["SQL models of the plan", "first plan"],
        )
        contest.compare(["plan, 1% more", "plan, no change", "publication", "recommend --all"], "first plan")
        memory = {"plan": "first", "index": "publication", "search": "search", "recommend --all": "recommend"}
        for title, key in memory.items():
            contest.ours(f"{title}: memory", lambda k=key: shop.peak(k), costs=lambda: [], warm=False)  # type: ignore[misc]
        contest.rival(
            "delivered bytes",
            lambda: lambda: Value(shop.bytes),
            [f"{title}: memory" for title in memory],
            unit="bytes",
        )
        yield contest
