"""How the steps of a turn follow one another: a LangGraph graph, and nothing else.

hear -> think -> (approve ->) plan -> run -> settle -> the next call, or think, or the end

Nobody pays before `approve` has the yes: the reply that wants the call is written down by then.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from glossator.agent.chat.state import State
from glossator.agent.chat.turns import Turns

NEXT: dict[Hashable, str] = {
    "approve": "approve",
    "plan": "plan",
    "think": "think",
    "close": "close",
    "end": END,
}


def graph_of(turns: Turns, checkpointer: BaseCheckpointSaver[str]) -> Any:
    """The graph of one conversation, ready to run."""
    graph = StateGraph(State)
    for name in ("hear", "think", "plan", "run", "settle", "close"):
        graph.add_node(name, _telling(getattr(turns, name)))
    graph.add_node("approve", _approval(turns))
    graph.add_edge(START, "hear")
    for name in ("hear", "think", "settle"):
        graph.add_conditional_edges(name, turns.following, NEXT)
    graph.add_edge("approve", "plan")
    graph.add_edge("plan", "run")
    graph.add_edge("run", "settle")
    graph.add_edge("close", END)
    return graph.compile(checkpointer=checkpointer)


def _telling(step: Any) -> Any:
    async def node(state: State) -> State:
        changed: State = await step(state, get_stream_writer())
        return changed

    return node


def _approval(turns: Turns) -> Any:
    async def approve(state: State) -> State:
        key = turns.key_of(state)
        if turns.notebook.get(f"{key} approval") is None:
            approved = interrupt({"call": key})
            turns.notebook.put(f"{key} approval", "approval", {"approved": approved is True})
        return {}

    return approve
