"""One exception for what a user can put right."""


class R1Error(ValueError):
    """A user's mistake. The message is one line: which file, row or setting, what is wrong, what to do.

    The command line prints that line and exits with 2; a notebook shows it without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]
