"""The JSON API answers whatever is asked of it, and as its description says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance

from glossator.store import open_store
from glossator.web.server.app import create_app
from tests.review_store import fill

HERE = "http://127.0.0.1:8321"


@pytest.fixture(scope="module")
def app_schema(tmp_path_factory: pytest.TempPathFactory) -> schemathesis.BaseSchema:
    url = f"sqlite:///{tmp_path_factory.mktemp('api')}/results.db"
    with open_store(url) as store:
        fill(store, 30)
    return schemathesis.openapi.from_asgi(
        "/api/openapi.json", create_app(url), headers={"host": "127.0.0.1"}
    )


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_question_makes_the_server_fail(
    app_schema: schemathesis.BaseSchema, mode: GenerationMode
) -> None:
    asked = []
    for found in app_schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=60, database=None, suppress_health_check=list(HealthCheck))
        def ask(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(
                headers={"host": "127.0.0.1"},
                checks=[not_a_server_error, response_schema_conformance],
            )

        # Any text may be the name of a run, so nothing wrong can be asked of those.
        if mode is GenerationMode.POSITIVE or "features" in operation.path:
            ask()
            asked.append(operation.label)
    assert len(asked) == (4 if mode is GenerationMode.POSITIVE else 2)


def test_the_description_names_no_other_host(tmp_path: Path) -> None:
    with TestClient(create_app(f"sqlite:///{tmp_path}/none.db"), base_url=HERE) as client:
        described = client.get("/api/openapi.json")
        assert set(described.json()["paths"]) == {
            *("/api/runs", "/api/runs/{run}", "/api/features", "/api/features/{row}")
        }
        assert "http" not in described.text.replace("HTTPValidationError", "")
        assert client.get("/docs").status_code == 404
        assert client.get("/api/runs").status_code == 404
