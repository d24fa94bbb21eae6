"""Much, and long, and under want: what shows only after many connections, or when something is out.

Nothing of this is run unless the environment variable ``PINSOCK_ENDURANCE`` is set: see
:mod:`tests.endurance.amounts`.
"""
