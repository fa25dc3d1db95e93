"""Where a record comes from: versions, commit, platform, time."""

from __future__ import annotations

import datetime
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("unsmash", "torch", "numpy", "grpcio", "scikit-image", "scikit-learn", "scipy")


def provenance() -> dict[str, Any]:
    """Versions of what computes, the commit where it is known, and when."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in PACKAGES},
    }


def _commit() -> str:
    """The commit of the checkout that this package runs from; "+" where files differ from it."""
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return "unknown"
    try:
        git = ["git", "-C", str(folder)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
