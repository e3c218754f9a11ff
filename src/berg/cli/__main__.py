"""``python -m berg.cli``."""

from berg.cli import main

main()
