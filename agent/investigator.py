"""One inquiry from the first look to the conclusion, going on where it was cut off."""

from __future__ import annotations

import os
from typing import Any

# Before LangGraph is imported: nothing but plain values out of a checkpoint, nothing to its maker.
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
os.environ.setdefault("LANGSMITH_TRACING", "false")

from langgraph.checkpoint.base import BaseCheckpointSaver

from glossator.agent.graph import graph_of
from glossator.agent.inquiry import Inquiry
from glossator.evidence import Conclusion

STEPS_A_ROUND = 6
STEPS_AROUND = 8


async def investigate(
    inquiry: Inquiry, checkpointer: BaseCheckpointSaver[str] | None = None, thread: str = "inquiry"
) -> Conclusion:
    """The conclusion of `inquiry`; what its notebook and `checkpointer` hold is not done again.

    Raises:
        ProviderError, BudgetSpent: as the language model does; the same call goes on from there.
        StoreError: if the notebook cannot be written.
    """
    if (done := inquiry.concluded) is not None:
        return done
    graph = graph_of(inquiry, checkpointer)
    # Rounds without a new experiment come on top of those with one.
    rounds = 2 * inquiry.settings.most_experiments + 4
    config: dict[str, Any] = {
        "configurable": {"thread_id": thread},
        "recursion_limit": STEPS_A_ROUND * rounds + STEPS_AROUND,
    }
    given: dict[str, Any] | None = {}
    if checkpointer is not None:
        known = await graph.aget_state(config)
        if known.next:
            given = None
        elif known.values:
            # Killed where nothing was to come next: the notebook has all that was done.
            await checkpointer.adelete_thread(thread)
    await graph.ainvoke(given, config)
    concluded = inquiry.concluded
    assert concluded is not None, "the last step writes the conclusion"
    return concluded
