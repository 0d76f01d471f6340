"""`python -m runtrue`."""

from runtrue.cli import main

main()
