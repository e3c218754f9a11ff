"""The command line: it parses, calls and prints.

Each command imports what it needs when it runs, so that ``berg --help`` stays quick.
"""

from berg.cli import building, disk, encoding, files, models, pictures, reporting
from berg.cli.group import main

__all__ = ["building", "disk", "encoding", "files", "main", "models", "pictures", "reporting"]
