"""The interpreter's own suites for ``ssl``, run with an unpinned ``PinnedContext`` in its place."""
