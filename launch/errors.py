"""The one way a launch ends on purpose."""


class LaunchError(Exception):
    """One clear message for a person, no traceback.

    Attributes:
        code: exit code; 2 bad flags, spec or rights, 4 no capacity or a limit reached.
    """

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code
