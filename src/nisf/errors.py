"""The one exception that users see as a sentence instead of a traceback."""


class NisfError(Exception):
    """Something the user can mend: the message names the file, the value found and what to do."""
