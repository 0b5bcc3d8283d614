"""What went wrong with a source."""


class SourceError(ValueError):
    """A source that cannot be used or reached; the message says what to do."""
