"""Runs the revisions of `versions` on the connection that `glossator.database` hands over."""

from alembic import context

from glossator.schema import metadata

# One transaction around all revisions: it was begun by whoever opened the store.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
