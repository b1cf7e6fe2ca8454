"""Packages that only some runs need: asked for here, so that who lacks one reads one line and not a traceback."""

import importlib.util
from types import ModuleType

from r1lib.errors import R1Error


def require(*packages: str, purpose: str) -> None:
    """`R1Error` that says what to install, unless all these packages are there."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise R1Error(f"{purpose} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
                      "pip install -r requirements-gpu.txt. Without it, use the backend \"ours\".")


def arrow() -> ModuleType:
    """pyarrow, with `parquet`, which is only asked for where there is a table."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise R1Error("parquet files need pyarrow: pip install pyarrow, or use JSON.") from None
    return pyarrow
