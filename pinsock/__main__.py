"""``python -m pinsock``: the command line of :mod:`pinsock._cli`."""

from pinsock._cli import main

raise SystemExit(main())
