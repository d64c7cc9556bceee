"""The review pages: a server on this machine that shows what a store holds."""
