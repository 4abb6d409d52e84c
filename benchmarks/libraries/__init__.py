"""The same work in each library: `work` says what, `with_*` do it."""
