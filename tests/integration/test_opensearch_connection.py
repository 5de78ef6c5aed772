"""Certificates, credentials, and the messages for connections that fail."""

import logging
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.certificate_authority import authority
from helpers.faulty_proxy import Fault, proxy
from opensearchpy import exceptions
from pydantic import SecretStr

from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.opensearch.connection import (
    UnreachableError,
    connect,
    connection_errors,
    redacted,
    server_errors,
)

PASSWORD = "pä:ss@/w%20rd"  # noqa: S105
QUOTED = "p%C3%A4%3Ass%40%2Fw%2520rd"
BASIC = "Basic " + b64encode(f"alice:{PASSWORD}".encode()).decode()
KEY = "ApiKey os_12345"


def guard(authorization: str | None) -> int:
    """Accept alice and the key, answer 403 to bob and 401 to everybody else."""
    if authorization and authorization.startswith("Basic Ym9i"):
        return 403
    return 0 if authorization in (BASIC, KEY) else 401


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def secure(opensearch_url: str, folder: Path) -> Iterator[str]:
    """A TLS proxy with users in front of the real server; its certificate authority is the file `ours.pem`."""
    _, context = authority(folder, "ours")
    with proxy(opensearch_url, guard=guard, tls=context) as url:
        yield url


def test_an_own_authority_and_a_password_are_accepted(secure: str, folder: Path) -> None:
    settings = Settings(index_ca=folder / "ours.pem", index_user="alice", index_password=SecretStr(PASSWORD))
    assert connect(secure, settings).info()["version"]["distribution"] == "opensearch"


def test_password_and_key_are_read_from_files(secure: str, folder: Path) -> None:
    (folder / "password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    (folder / "key").write_text("os_12345\n")
    by_password = Settings(index_ca=folder / "ours.pem", index_user="alice", index_password_file=folder / "password")
    by_key = Settings(index_ca=folder / "ours.pem", index_api_key_file=folder / "key")
    for settings in (by_password, by_key):
        assert connect(secure, settings).ping()


def test_only_the_url_of_the_settings_may_hold_a_password(secure: str, folder: Path) -> None:
    url = secure.replace("://", f"://alice:{QUOTED}@")
    assert connect(url, Settings(index_ca=folder / "ours.pem", index_url=url)).ping()
    with pytest.raises(UsageError, match="has a password, which other users") as caught:
        connect(url, Settings())
    assert QUOTED not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "message"),
    [("alice", "does not accept these credentials"), ("bob", "does not allow this"), (None, "does not accept")],
)
def test_refused_credentials_are_reported_without_the_secret(
    secure: str, folder: Path, user: str | None, message: str
) -> None:
    password = SecretStr("wrong-secret") if user else None
    client = connect(secure, Settings(index_ca=folder / "ours.pem", index_user=user, index_password=password))
    with pytest.raises(UsageError, match=message) as caught:
        client.info()
    assert "wrong-secret" not in str(caught.value)


def test_a_certificate_of_another_authority_is_refused(secure: str, folder: Path) -> None:
    other, _ = authority(folder, "other")
    for ca in (other, None):
        with pytest.raises(
            UsageError, match=r"certificate of https://127.0.0.1:\d+ is not trusted: .*VLM4REC_INDEX_CA"
        ):
            connect(secure, Settings(index_ca=ca)).info()


def test_a_certificate_for_another_name_is_refused(secure: str, folder: Path) -> None:
    settings = Settings(index_ca=folder / "ours.pem")
    with pytest.raises(UsageError, match="Hostname mismatch"):
        connect(secure.replace("127.0.0.1", "localhost"), settings).info()


def test_the_wrong_scheme_is_reported(secure: str, opensearch_url: str) -> None:
    with pytest.raises(UsageError, match="does not speak TLS: try http://"):
        connect(opensearch_url.replace("http:", "https:"), Settings()).info()
    with pytest.raises(Vlm4recError, match="cannot reach http://127"):
        connect(secure.replace("https:", "http:"), Settings()).info()


def test_closed_ports_unknown_hosts_and_time_outs_are_reported(opensearch_url: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(UnreachableError, match=f"^cannot reach http://127.0.0.1:{port}: Connection refused$"):
        connect(f"http://127.0.0.1:{port}", Settings()).info()
    with pytest.raises(UnreachableError, match=r"cannot reach http://nowhere\.invalid:9200: "):
        connect("http://nowhere.invalid", Settings()).info()
    slow = proxy(opensearch_url, lambda _number, _body: Fault(delay=2.0))
    with slow as url, pytest.raises(UnreachableError, match="did not answer in time"):
        connect(url, Settings(), timeout=0.2).bulk(body=b"\n")


def test_the_cause_is_reported_inside_the_handler_of_another_error(opensearch_url: str) -> None:
    with proxy(opensearch_url, lambda _number, _body: Fault(cut="before")) as url:
        try:
            raise ValueError("something else")
        except ValueError:
            with pytest.raises(UnreachableError, match="Remote end closed connection without response"):
                connect(url, Settings()).bulk(body=b"\n")


def test_other_refusals_stay_exceptions_of_the_client(opensearch_url: str) -> None:
    with pytest.raises(exceptions.NotFoundError):
        connect(opensearch_url, Settings()).indices.get(index="test-never-there")


@pytest.mark.parametrize("block", ["cluster_block_exception", "index_create_block_exception"])
def test_a_block_of_the_server_is_no_matter_of_credentials(block: str) -> None:
    reason = "blocked by: [FORBIDDEN/10/cluster create-index blocked (api)];"
    refusal = exceptions.AuthorizationException(403, block, {"error": {"type": block, "reason": reason}})
    message = f"^the server refuses: {block}: blocked by"
    with pytest.raises(RunError, match=message), server_errors(), connection_errors("http://127.0.0.1:9200"):
        raise refusal


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"index_user": "alice"}, "no VLM4REC_INDEX_PASSWORD"),
        ({"index_password": "secret-1"}, "no VLM4REC_INDEX_USER"),
        ({"index_user": "a", "index_password": "secret-1", "index_api_key": "secret-2"}, "not both"),
        ({"index_api_key": "secret-2", "index_api_key_file": "somewhere"}, "not both"),
        ({"index_api_key": "secret\nx-evil: 1"}, "VLM4REC_INDEX_API_KEY is empty or has characters that"),
        ({"index_api_key": "schlüssel"}, "VLM4REC_INDEX_API_KEY is empty or has characters that"),
        ({"index_api_key_file": "/nowhere/key"}, "cannot read /nowhere/key: No such file"),
        ({"index_ca": "/nowhere/ca.pem"}, "cannot read /nowhere/ca.pem: No such file"),
        ({"index_ca": __file__}, "holds no certificate in PEM form"),
    ],
)
def test_invalid_and_contradicting_settings_are_refused(values: dict[str, str], message: str) -> None:
    settings = Settings.model_validate(values)
    with pytest.raises(UsageError, match=message) as caught:
        connect("https://127.0.0.1:1", settings)
    assert "secret" not in f"{caught.value}{settings!r}"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://u:secret@h:x",
        "http://h/?q=1",
        "h:9200",
        "http://u:secret/1@h",
        "http://u:12/secret@h",
        "u:secret@h",
    ],
)
def test_an_invalid_url_is_refused_without_showing_secrets(url: str) -> None:
    with pytest.raises(UsageError, match="is not the URL of a server") as caught:
        connect(url, Settings())
    assert "secret" not in str(caught.value)


def test_redacted_urls_have_no_userinfo() -> None:
    assert redacted("https://u:p%40@h:9200/x") == "https://h:9200/x"
    assert redacted("http://u:a/b@h:9200") == "http://h:9200"
    assert redacted("u:a@h:9200") == "h:9200"
    assert redacted("http://u:a@b@h") == "http://h"
    assert redacted("index") == "index"


def test_logs_and_repr_have_no_secrets(secure: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = secure.replace("://", f"://alice:{QUOTED}@")
    settings = Settings(index_ca=folder / "ours.pem", index_url=url)
    with caplog.at_level(logging.DEBUG):
        client = connect(url, settings)
        client.info()
        client.indices.exists(index="test-never-there")
    logged = f"{caplog.text}{client!r}{settings!r}"
    assert "test-never-there" in logged
    assert not any(secret in logged for secret in (PASSWORD, QUOTED, BASIC.split()[1]))
