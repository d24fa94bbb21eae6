"""Code that takes an ``ssl.SSLContext``, given a ``PinnedContext``."""
