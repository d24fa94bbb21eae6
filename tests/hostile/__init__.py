"""Peers that break the rules of TLS, played by tlslite-ng; ``tox -e hostile`` installs it."""
