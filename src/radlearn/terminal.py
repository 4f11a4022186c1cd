"""What the terminal shows beside progress bars: radlearn's own messages, once, and no library's chatter."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_CHATTY = (
    "lightning.pytorch",
    "lightning.fabric",
    "lightning",
    "timm",
    "transformers",
    "matplotlib",
    "huggingface_hub",
)


class _Message(logging.Handler):
    """Prints records to standard error as it is now: tests and notebooks replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        print(f"{mark}{self.format(record)}", file=sys.stderr, flush=True)


def is_first_process() -> bool:
    """Whether the launcher calls this process the first one; true without a launcher."""
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(int(os.environ.get(name, 0)) == 0 for name in names)


def set_up(*, speaks: bool = True) -> None:
    """Show radlearn's messages, silence what libraries say about themselves.

    Args:
        speaks: whether this process tells what it does; the other ranks of a run only warn.
    """
    logger = logging.getLogger("radlearn")
    if not any(isinstance(handler, _Message) for handler in logger.handlers):
        logger.addHandler(_Message())
    logger.propagate = False
    logger.setLevel(logging.INFO if speaks else logging.WARNING)
    quiet_libraries()


def console() -> Console:
    """Standard output for tables: as wide as the terminal, and wide enough for a table in a file or a log."""
    from rich.console import Console

    shown = Console()
    return shown if shown.is_terminal else Console(width=110)


def quiet_libraries() -> None:
    """Leave errors only of what libraries say; called again after an import that sets its own level."""
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    # Warnings that a user can do nothing about: they concern how Lightning is written.
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=r".*`isinstance\(treespec, LeafSpec\)`.*")
