"""The benchmarks: what pinsock costs beside ``ssl`` and bare pyOpenSSL; see README.rst.

They print numbers and assert none: a number depends on the machine and its other users.
"""
