"""The HTTP app behind keys: every route has a rule, and every refusal is a problem."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from koine.artifact import Artifact
from koine.errors import SettingsError
from service.access.guard import Rule, rule_of
from service.access.headers import HSTS
from service.access.keys import SCOPES, Scope, new_secret
from service.routes import create_app
from service.settings import Settings
from tests.service.access.keyring import add
from tests.service.conftest import serving
from tests.service.test_unhappy_requests import problem_of

TEXT = {"inputs": [{"text": "a dog"}]}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A keys file under `file`, and the secret of a key for each scope."""
    path = tmp_path_factory.mktemp("keys") / "keys.jsonl"
    made = {scope: add(path, scope, scope) for scope in SCOPES}
    made["slow"] = add(path, "slow", "encode", "read", requests_per_minute=2)
    made["small"] = add(path, "small", "encode", items_per_minute=3)
    return {"file": str(path), **made}


@pytest.fixture(scope="module")
def closed(tiny_artifact: Artifact, keys: dict[str, str]) -> Iterator[TestClient]:
    with serving(tiny_artifact, keys_file=keys["file"]) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_every_route_of_the_app_has_a_rule() -> None:
    asked = 0
    for route in create_app(Settings()).routes:
        if isinstance(route, Mount):
            assert isinstance(rule_of(f"{route.path}/x.css", "GET"), Rule), route.path
            continue
        assert isinstance(route, Route)
        path = route.path_format.replace("{", "").replace("}", "")
        for method in route.methods or ():
            asked += 1
            assert isinstance(rule_of(path, method), Rule), f"{method} {path} has no rule"
    assert asked >= 9


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/encode", "encode"),
        ("POST", "/v1/embeddings", "encode"),
        ("POST", "/v1/compare", "encode"),
        ("POST", "/v1/translate", "encode"),
        ("POST", "/v1/localize", "encode"),
        ("POST", "/v2/models/m/infer", "encode"),
        ("POST", "/v2/models/m/versions/1/infer", "encode"),
        ("POST", "/v2/models/a/b/infer", "encode"),
        ("GET", "/v2", "read"),
        ("GET", "/v2/models/m", "read"),
        ("GET", "/v2/models/m/ready", "read"),
        ("GET", "/v1/info", "read"),
        ("HEAD", "/v1/info", "read"),
        ("GET", "/v1/concepts/4711", "read"),
        ("PATCH", "/v1/concepts/4711", "label"),
        ("GET", "/v1/admin/keys", "admin"),
        ("POST", "/v1/admin", "admin"),
        ("GET", "/livez", None),
        ("GET", "/v2/health/ready", None),
        ("GET", "/docs/assets/swagger-ui.css", None),
        ("GET", "/metrics", None),
    ],
)
def test_what_a_path_needs(method: str, path: str, scope: Scope | None) -> None:
    rule = rule_of(path, method)
    assert isinstance(rule, Rule)
    assert rule.scope == scope


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v3/encode", "/v1/encode\n", "/v2/models/m/infer\n", "/livez/", "/livez\n",
     "/docsx", "/V1/encode", "//v1/encode", "/v1/concepts/a\nb"],
)  # fmt: skip
def test_other_paths_have_no_rule(path: str) -> None:
    for method in ("GET", "POST", "PATCH", "OPTIONS"):
        assert rule_of(path, method) == set()


def test_metrics_are_free_unless_asked_for() -> None:
    rule = rule_of("/metrics", "GET", metrics_auth=True)
    assert isinstance(rule, Rule)
    assert rule.scope == "read"


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz", "/docs", "/openapi.json"])
def test_free_paths_need_no_key(closed: TestClient, path: str) -> None:
    assert closed.get(path).status_code == 200
    assert closed.get(path, headers=bearer("wrong")).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/v1/encode", "/v1/info", "/v1/nothing", "/", "/v1/encode%0A", "/livez%2f..%2fv1%2finfo"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_without_a_key_every_other_path_looks_alike(
    closed: TestClient, method: str, path: str
) -> None:
    answer = closed.request(method, path)
    assert "no API key was sent" in problem_of(answer, 401)
    assert answer.headers["www-authenticate"] == 'Bearer realm="koine"'
    problem_of(closed.request(method, path, headers=bearer(new_secret())), 401)
    problem_of(closed.request(method, path, headers={"x-api-key": "koine_short"}), 401)


def test_a_key_opens_what_its_scopes_say(closed: TestClient, keys: dict[str, str]) -> None:
    for scope in get_args(Scope):
        encoded = closed.post("/v1/encode", json=TEXT, headers=bearer(keys[scope]))
        assert encoded.status_code == (200 if scope == "encode" else 403), scope
        info = closed.get("/v1/info", headers={"x-api-key": keys[scope]})
        assert info.status_code == (200 if scope == "read" else 403), scope
    said = problem_of(closed.post("/v1/encode", json=TEXT, headers=bearer(keys["read"])), 403)
    assert "needs the scope `encode`, the key read" in said


def test_with_a_key_unknown_paths_and_methods_are_told(
    closed: TestClient, keys: dict[str, str]
) -> None:
    headers = bearer(keys["read"])
    assert "is no endpoint" in problem_of(closed.get("/v3/nothing", headers=headers), 404)
    # a router takes a line feed at the end for nothing; a key without the scope must not pass so
    problem_of(closed.post("/v1/encode%0A", json=TEXT, headers=headers), 404)
    refused = closed.delete("/v1/encode", headers=headers)
    assert "DELETE is not allowed" in problem_of(refused, 405)
    assert refused.headers["allow"] == "GET, HEAD, POST"


def test_a_header_sent_twice_is_refused(closed: TestClient, keys: dict[str, str]) -> None:
    twice = [("authorization", f"Bearer {keys[scope]}") for scope in ("read", "encode")]
    problem_of(closed.get("/v1/info", headers=twice), 401)


def count(client: TestClient, reason: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    start = f'koine_rejected_requests_total{{reason="{reason}"}} '
    return next(float(line.removeprefix(start)) for line in lines if line.startswith(start))


def test_rates_are_429_with_the_wait(closed: TestClient, keys: dict[str, str]) -> None:
    before = {reason: count(closed, reason) for reason in ("rate_limit", "queue_full")}
    for _ in range(2):
        assert closed.get("/v1/info", headers=bearer(keys["slow"])).status_code == 200
    refused = closed.get("/v1/info", headers=bearer(keys["slow"]))
    assert "2 requests a minute" in problem_of(refused, 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    body = {"inputs": [{"text": "a dog"}] * 3}
    assert closed.post("/v1/encode", json=body, headers=bearer(keys["small"])).status_code == 200
    refused = closed.post("/v1/encode", json=body, headers=bearer(keys["small"]))
    assert "3 items a minute" in problem_of(refused, 429)
    assert count(closed, "rate_limit") == before["rate_limit"] + 2
    assert count(closed, "queue_full") == before["queue_full"]


@pytest.fixture(params=["open", "closed"])
def either(request: pytest.FixtureRequest) -> TestClient:
    return request.getfixturevalue("client" if request.param == "open" else "closed")


@pytest.mark.parametrize("path", ["/v1/info", "/v1/nothing", "/livez", "/docs", "/metrics"])
def test_every_answer_has_the_headers(either: TestClient, path: str) -> None:
    answer = either.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert ("script-src" in policy) == (path == "/docs")
    assert ("cache-control" in answer.headers) == path.startswith("/v1/")
    assert "strict-transport-security" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


def test_hsts_is_sent_over_tls_only(client: TestClient) -> None:
    over_tls = TestClient(client.app, base_url="https://testserver")
    assert over_tls.get("/docs").headers["strict-transport-security"] == HSTS


def test_an_unforeseen_fault_has_the_headers_too(tiny_artifact: Artifact) -> None:
    with serving(tiny_artifact) as client:
        app: Any = client.app
        app.state.core = None
        answer = client.get("/v1/info")
        problem_of(answer, 500)
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_pages_of_configured_origins_may_call(
    tiny_artifact: Artifact, keys: dict[str, str]
) -> None:
    asked = {"cors_origins": "https://a.example, https://b.example:8443"}
    with serving(tiny_artifact, keys_file=keys["file"], **asked) as client:
        origin = {"origin": "https://b.example:8443"}
        preflight = origin | {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type",
        }
        allowed = client.options("/v1/encode", headers=preflight)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == origin["origin"]
        refused = client.post("/v1/encode", json=TEXT, headers=origin)
        problem_of(refused, 401)  # and the page may read why
        assert refused.headers["access-control-allow-origin"] == origin["origin"]
        other = preflight | {"origin": "https://c.example"}
        assert client.options("/v1/encode", headers=other).status_code == 400


@pytest.mark.parametrize("origins", ["a.example", "https://a.example/page", "", "*, *", "file://x"])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings(cors_origins=origins)


def test_metrics_can_need_a_key(tiny_artifact: Artifact, keys: dict[str, str]) -> None:
    with serving(tiny_artifact, keys_file=keys["file"], metrics_auth=True) as client:
        problem_of(client.get("/metrics"), 401)
        assert client.get("/metrics", headers=bearer(keys["read"])).status_code == 200


def test_a_file_that_cannot_be_used_stops_the_app(tmp_path: Path) -> None:
    broken = tmp_path / "keys.jsonl"
    broken.write_text("{")
    with pytest.raises(SettingsError, match="line 1"):
        create_app(Settings(keys_file=broken))
