"""The bench: explanations whose truth is known, and what scorers and explainers make of them."""
