"""What an embedder's callbacks raise: kept while what is under way goes on, and raised where the embedder sees it."""

import threading


class CallbackErrors:
    """
    Keeps what callbacks raised, from any thread; `_lock` guards it.

    Rejected: to log it only. A failed assertion in a callback would leave its test green. To let it pass where it is
    raised would have a subscriber decide how a migration ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []

    def keep(self, error: BaseException) -> None:
        """Keep an error; the same one is kept once."""
        with self._lock:
            if not any(error is kept for kept in self._errors):
                self._errors.append(error)

    def keep_what_fails_a_test(self, error: BaseException) -> None:
        """Keep what is meant for whoever runs the code, of an error or of all in a group."""
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                self.keep_what_fails_a_test(each)
        elif fails_a_test(error):
            self.keep(error)

    def add_to(self, failure: BaseException) -> None:
        """Name all that were kept in notes on something that is raised already, and forget them."""
        for error in self._take():
            failure.add_note(f"a callback raised {error!r} meanwhile")

    def raise_first(self) -> None:
        """Raise the first, the others as notes on it, and forget them; nothing if there are none."""
        errors = self._take()
        if errors:
            first, *others = errors
            for error in others:
                first.add_note(f"another callback raised {error!r}")
            raise first

    def _take(self) -> list[BaseException]:
        with self._lock:
            errors, self._errors = self._errors, []
        return errors


def fails_a_test(error: BaseException) -> bool:
    """Whether an error is meant for whoever runs the code: a failed assertion, `pytest.fail`, a cancellation."""
    return isinstance(error, AssertionError) or not isinstance(error, Exception)
