"""The ways a run ends on purpose; `main` turns them into exit codes 2, 3 and 42."""


class UserError(Exception):
    """Bad flags, config or data: one clear message, no traceback, exit code 2."""


class WrongDevices(UserError):
    """JAX found other devices than expected: exit code 3, another machine may do."""


class Interrupted(BaseException):
    """A signal came, the state is saved: exit code 42, the same command resumes.

    Not an `Exception`, so that no library's broad `except Exception` swallows a stop.
    """
