"""The documentation matches the code: the commands, options, settings, tables and queries in it exist and work."""

import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import pytest
import yaml
from helpers.waiting import wait_until
from helpers.workspace import ROOT
from sqlmesh import Context

from vlm4rec_search.cli import COMMANDS, main
from vlm4rec_search.common.analyzer import ENGLISH
from vlm4rec_search.common.bm25 import BOOSTS
from vlm4rec_search.indexes.opensearch.mapping import INDEX_KINDS, index_name
from vlm4rec_search.indexes.opensearch.templates import template_sources
from vlm4rec_search.pipeline.quality.suites import load_suites
from vlm4rec_search.pipeline.saved_queries import load_queries
from vlm4rec_search.pipeline.ubi_export import EVENTS, QUERIES
from vlm4rec_search.search.fusion import Candidates, fuse
from vlm4rec_search.search.query import Fusion
from vlm4rec_search.search.ranking import DEFAULT, load_ranking
from vlm4rec_search.search.rules import load_rules

README = (ROOT / "README.md").read_text("utf-8")
PAGES = {"README.md": README} | {
    str(path.relative_to(ROOT)): path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("**/*.md"))
}
HEAVY = {"duckdb", "great_expectations", "numpy", "pandas", "PIL", "pydantic", "rich", "scipy", "sqlmesh", "torch"}


def commands() -> dict[str, click.Command]:
    """Return every command by the words that call it, such as `import generic`."""
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": leaf for inner, leaf in command.commands.items()}
        else:
            found[name] = command
    return found


def lines_that_call(program: str) -> list[list[str]]:
    text = "\n".join(PAGES.values()).replace("\\\n", " ")
    calls = re.findall(rf"^ +{program} [^\n#]*", text, flags=re.MULTILINE)
    return [shlex.split(call)[1:] for call in calls]


def test_the_runbook_and_the_nightly_job_name_only_commands_and_alerts_that_exist() -> None:
    pages = PAGES["docs/runbook.md"], PAGES["docs/scheduling.md"], PAGES["docs/privacy.md"]
    named = [call for page in pages for call in re.findall(r"(?:`|; +|run )vlm4rec ([a-z][^`\n;]*)", page)]
    assert len(named) > 10
    for call in map(shlex.split, named):
        words = [word for word in call if not word.startswith("-")]
        assert {" ".join(words[:2]), words[0]} & {*commands(), *COMMANDS}, call
    alerts = yaml.safe_load((ROOT / "examples" / "grafana" / "alerts.yaml").read_text("utf-8"))
    known = {rule["alert"] for group in alerts["groups"] for rule in group["rules"]}
    runbook = PAGES["docs/runbook.md"]
    assert set(re.findall(r"^\| .*alert `(\w+)`", runbook, re.MULTILINE)) == known
    headings = {re.sub(r"\W+", "-", title.lower()) for title in re.findall(r"^## (.*)$", runbook, re.MULTILINE)}
    assert set(re.findall(r"\(#([\w-]+)\)", runbook)) == headings


@pytest.fixture
def nightly(tmp_path: Path) -> Path:
    """The nightly job of the docs, with commands that write their names to `steps` and do nothing else."""
    (script,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", PAGES["docs/scheduling.md"], flags=re.DOTALL)
    write_program(tmp_path / "nightly.sh", script)
    for name in ("sqlmesh", "vlm4rec", "curl"):
        write_program(tmp_path / "bin" / name, f'#!/bin/sh\necho "{name} $*" >> steps\n')
    return tmp_path / "nightly.sh"


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(0o755)


def start(nightly: Path) -> subprocess.Popen[str]:
    path = f"{nightly.parent / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "ALERT_URL": "https://alerts.example.org/shop"}

    def hear_signals() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):  # a shell cannot trap what it is started without
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen([nightly], env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=hear_signals)


def test_the_nightly_job_stops_at_the_first_step_that_fails_and_alerts(nightly: Path) -> None:
    job, steps = start(nightly), nightly.parent / "steps"
    assert (job.communicate()[1], job.returncode) == ("", 0)
    assert [line.split()[0] for line in steps.read_text().splitlines()] == ["sqlmesh", *["vlm4rec"] * 4]
    steps.unlink()
    (nightly.parent / "forgotten.json").touch()
    write_program(nightly.parent / "bin" / "sqlmesh", "#!/bin/sh\nexit 3\n")
    job = start(nightly)
    assert (job.communicate()[1].endswith("nightly job failed at: plan (exit 3)\n"), job.returncode) == (True, 3)
    forgotten, alert = steps.read_text().splitlines()
    assert forgotten == "vlm4rec forget"
    assert alert.endswith("nightly job of the shop failed at: plan https://alerts.example.org/shop")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_nightly_job_that_is_given_up_ends_its_step_and_alerts(nightly: Path, number: signal.Signals) -> None:
    plan, steps = nightly.parent / "plan", nightly.parent / "steps"
    write_program(
        nightly.parent / "bin" / "sqlmesh", f"#!/bin/sh\necho $$ > {plan}.part; mv {plan}.part {plan}\nexec sleep 60\n"
    )
    job = start(nightly)
    wait_until(plan.exists)
    job.send_signal(number)
    assert job.communicate(timeout=30)[1].endswith("nightly job failed at: plan (exit 143)\n")
    assert job.returncode == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(plan.read_text()), 0)
    (alert,) = steps.read_text().splitlines()
    assert alert.endswith("failed at: plan https://alerts.example.org/shop")


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_help_with_an_example_and_is_in_the_docs(name: str) -> None:
    command = commands()[name]
    # As in a shell: a command keeps the names of its help option, and other tests use it, too.
    help_text = command.get_help(click.Context(command, parent=click.Context(main, **main.context_settings)))
    assert re.search(rf"Examples?:\s+(\w+=\S+\s+)?vlm4rec {name}", help_text), help_text
    assert any(f"vlm4rec {name}" in page for page in PAGES.values()) or name == "demo"


def test_the_docs_name_only_options_that_exist() -> None:
    calls = lines_that_call("vlm4rec")
    assert len(calls) > 8
    for call in calls:
        name = next(name for name in (" ".join(call[:2]), call[0]) if name in commands())
        options = {option for parameter in commands()[name].params for option in parameter.opts}
        used = {word for word in call if re.match(r"--?[a-z]", word)}
        assert used <= options, f"vlm4rec {name} has no {used - options}"


def test_the_reference_is_what_the_code_says(context: Context) -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    pages = {"settings": generate["settings_page"](), "tables": generate["tables_page"](context)}
    pages |= {"index-fields": generate["index_page"](), "systems": generate["systems_page"]()}
    for name, page in pages.items():
        assert PAGES[f"docs/reference/{name}.md"] == page, "python docs/generate.py"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_of_the_project(page: str) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", PAGES[page])
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_headings(page: str) -> None:
    for path, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#([^)\s]+)\)", PAGES[page]):
        text = ((ROOT / page).parent / path if path else ROOT / page).read_text("utf-8")
        titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, (path, anchor)


def test_the_site_shows_every_page() -> None:
    def pages(entries: list[Any]) -> list[str]:
        values = [value for entry in entries for value in entry.values()]
        return [page for value in values for page in (pages(value) if isinstance(value, list) else [value])]

    shown = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])
    assert sorted(f"docs/{page}" for page in shown) == sorted(set(PAGES) - {"README.md"})


def test_the_rules_and_scenarios_of_the_docs_are_read(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGES["docs/rules.md"], flags=re.DOTALL)
    (tmp_path / "rules.yaml").write_text("".join(blocks), "utf-8")
    given = load_rules(tmp_path / "rules.yaml")
    assert len(given.rules) == 5
    assert list(given.scenarios) == ["home", "cart", "mail"]


def test_the_ranking_of_the_docs_is_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGES["docs/ranking.md"], flags=re.DOTALL)
    (tmp_path / "ranking.yaml").write_text(DEFAULT.read_text("utf-8") + block, "utf-8")
    ranking = load_ranking(tmp_path / "ranking.yaml")
    assert (len(ranking.by_history), ranking.min_score) == (1, 0.02)


def test_the_suite_of_the_docs_is_read(tmp_path: Path) -> None:
    (suite,) = re.findall(r"```yaml\n(.*?)```", PAGES["docs/own-tables.md"], flags=re.DOTALL)
    (tmp_path / "big_baskets.yaml").write_text(suite, "utf-8")
    assert [suite.table for suite in load_suites(tmp_path)] == ["analysis.big_baskets"]


def test_the_contract_says_what_the_code_does() -> None:
    page = PAGES["docs/contract.md"]
    boosts = {field: float(boost) for field, boost in re.findall(r"^\| `(\w+)` \| ([\d.]+) \|$", page, re.MULTILINE)}
    assert {field: boosts.get(field) for field in BOOSTS} == BOOSTS
    assert f"`{ENGLISH.name}`" in page
    sources = template_sources("", 400, load_ranking(None))
    assert set(re.findall(r"`vlm4rec-(\w+)-v1`", page)) == set(sources)
    parameters = {name for source in sources.values() for name in re.findall(r"\{\{[#^/]?(\w+)\}\}", source)}
    parameters |= {name for source in sources.values() for name in re.findall(r"toJson\}\}(\w+)\{\{", source)}
    described = page.split("| parameter |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", described, re.MULTILINE)) == parameters - {"toJson"}


def test_the_fusion_of_the_contract_is_that_of_the_code() -> None:
    given, expected = map(json.loads, re.findall(r"```json\n(.*?)```", PAGES["docs/contract.md"], flags=re.DOTALL))
    names = sorted({item for scores in given.values() for item in scores})
    found = [
        Candidates(kind, kind, np.array([names.index(item) for item in scores]), np.array(list(scores.values())))
        for kind, scores in given.items()
    ]
    assert set(expected) == set(get_args(Fusion))
    for fusion, scores in expected.items():
        fused = fuse(found, [1.0, 0.5], fusion, [0.5, 0.25] if fusion == "blend" else [])
        assert [names[document] for document in fused.documents] == list(scores)
        assert fused.scores.tolist() == pytest.approx(list(scores.values()), abs=1e-6)


def test_the_flow_page_draws_every_model() -> None:
    page = (ROOT / "models" / "README.md").read_text("utf-8")
    models = {path.stem for path in (ROOT / "models").glob("*/*") if path.suffix in (".sql", ".py")}
    assert [model for model in models if model not in page] == []


def test_the_flow_page_draws_every_dependency_and_no_other(context: Context) -> None:
    page = (ROOT / "models" / "README.md").read_text("utf-8")
    drawn = re.findall(r"^ +(\w+) --> (\w+)$", page, flags=re.MULTILINE)
    nodes = {model.fqn: node_name(model.name) for model in context.models.values()}
    built = {(nodes[source], nodes[model.fqn]) for model in context.models.values() for source in model.depends_on}
    assert set(drawn) == built


def node_name(model: str) -> str:
    """Return the name of a model's node on the flow page: `raw_items` for raw.items, `items` for staging.items."""
    layer, name = model.split(".")
    return f"{layer}_{name}" if layer == "raw" else name


def test_the_flow_page_names_every_room_and_only_those_that_exist() -> None:
    page = (ROOT / "models" / "README.md").read_text("utf-8")
    named = set(re.findall(r"^\| `(\w+)/` \|", page, flags=re.MULTILINE))
    rooms = {path.name for path in (ROOT / "vlm4rec_search").iterdir() if path.is_dir() and path.name[0] not in "_."}
    assert named == rooms


def test_the_page_for_analysts_lists_every_saved_query() -> None:
    page = PAGES["docs/analysts.md"]
    assert [query.name for query in load_queries(ROOT) if f"`{query.name}`" not in page] == []


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from vlm4rec_search.cli import main
main(["--help"], standalone_mode=False)
print(sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "search" in done.stdout
    assert done.stderr == "[]\n"


def test_the_roles_cover_the_indices_of_releases_and_no_others() -> None:
    roles = yaml.safe_load((ROOT / "vlm4rec_search" / "indexes" / "opensearch" / "roles.yml").read_text("utf-8"))
    releases = [index_name("", kind, "items__v4__model__20250630t120000000") for kind in INDEX_KINDS]
    others = ("items-of-others", "profiles_hr", "itemsets", ".kibana")
    ours = [*releases, f"{releases[0]}__loading", *INDEX_KINDS, "vlm4rec-lease", QUERIES, EVENTS]
    patterns = {
        role: {pattern for permission in definition["index_permissions"] for pattern in permission["index_patterns"]}
        for role, definition in roles.items()
    }
    for pattern in set().union(*patterns.values()):
        assert [name for name in ours if fnmatch(name, pattern)], pattern
        assert not [name for name in others if fnmatch(name, pattern)], pattern
    assert all(any(fnmatch(name, pattern) for pattern in patterns["vlm4rec_publisher"]) for name in ours)
