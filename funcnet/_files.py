"""Files that are whole or absent, at whatever moment the writing ends."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside its own, then rename it: all of it, or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _ = temporary.write_bytes(content)
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Return when a file's content, or a folder's list of names, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
