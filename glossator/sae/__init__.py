"""Sparse coders: read from the layouts in use, encode, decode, save."""

from glossator.sae.coder import SparseCoder
from glossator.sae.loading import load_coder

__all__ = ["SparseCoder", "load_coder"]
