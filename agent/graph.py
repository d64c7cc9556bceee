"""How the steps of an inquiry follow one another: a LangGraph graph, and nothing else.

observe -> look -> propose -> design -> run -> update -> doubt -> decide
                                ^                                    |
                                +------------ not yet ---------------+-> conclude
"""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph

from glossator.agent.inquiry import Inquiry
from glossator.agent.state import State


def graph_of(inquiry: Inquiry, checkpointer: BaseCheckpointSaver[str] | None = None) -> Any:
    """The graph of one inquiry, ready to run."""
    graph = StateGraph(State)
    for name in (
        *("observe", "look", "propose", "design", "run", "update", "doubt", "decide", "conclude"),
    ):
        graph.add_node(name, getattr(inquiry, name))
    graph.add_edge(START, "observe")
    graph.add_conditional_edges("observe", _unless_ended("look"))
    graph.add_edge("look", "propose")
    graph.add_conditional_edges("propose", _unless_ended("design"))
    graph.add_conditional_edges("design", lambda state: "run" if state["pending"] else "decide")
    graph.add_edge("run", "update")
    graph.add_edge("update", "doubt")
    graph.add_edge("doubt", "decide")
    graph.add_conditional_edges("decide", _unless_ended("design"))
    graph.add_edge("conclude", END)
    return graph.compile(checkpointer=checkpointer)


def _unless_ended(following: str) -> Any:
    return lambda state: "conclude" if state.get("ending") else following
