"""`--budget 0`: nothing is spent on paid models, and free ones work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glossator.runs import RunStatus
from glossator.store import Store
from tests.loopback import Loopback
from tests.pipeline_child import config_for, do
from tests.tiny_chat import TEMPLATE
from tests.tiny_llama import save_tiny_llama


def test_without_money_a_paid_model_is_not_asked_and_more_money_goes_on(
    folder: Path, store: Store, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    config = config_for(folder, llm="tests.pipeline_child:Priced", features="0")
    outcome = do(config, store, budget=0.0)
    assert outcome.status is RunStatus.BUDGET_SPENT
    assert outcome.stopped is not None
    assert outcome.stopped.exit_code == 4
    assert server.log == []
    assert do(config, store, budget=1000.0).status is RunStatus.DONE


def test_without_money_a_model_in_this_process_works(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    chat = save_tiny_llama(tmp_path / "chat")
    (chat / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    config = config_for(
        folder, llm=f"hf:{chat}", features="0", explainers=["unigram"], simulator="logprob",
        scorers=["simulation"], window=8,
    )  # fmt: skip
    outcome = do(config, store, budget=0.0)
    assert outcome.stopped is None
    assert outcome.used.calls > 0
    assert outcome.used.cost == 0.0


@pytest.mark.parametrize("value", ["-1", "nan", "much"])
def test_a_budget_that_is_none_is_refused_at_once(tmp_path: Path, value: str) -> None:
    command = [sys.executable, "-m", "glossator", "run", "--budget", value]
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert told.returncode == 2
    assert "budget" in told.stderr
    assert list(tmp_path.iterdir()) == []
