"""Files that are whole or absent, whatever moment the writing ends."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file under another name beside its own, then renames it.

    Args:
      path: the file; its folder exists.
      content: all of it.

    Raises:
      OSError: it can't be written. What was there before is there still.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _ = temporary.write_bytes(content)
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Returns when a file's content, or a folder's list of names, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
