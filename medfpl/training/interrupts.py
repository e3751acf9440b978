"""Ctrl-C and SIGTERM that never tear a step apart."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 2


class Interrupts:
    """While entered, SIGINT and SIGTERM raise KeyboardInterrupt: at once, or at the end of what is ``held``.

    ``torn`` says that what was held did not come to its end. Outside the main thread, where Python handles
    no signals, nothing is caught.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.torn = False
        self._held = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._receive) for s in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let what stands within come to its end first."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self.asked and not self._held:
            self.stop()

    def stop(self) -> None:
        """Raise the KeyboardInterrupt that was asked for."""
        self.asked = 0
        raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        # Someone who asks a third time does not want to wait any longer.
        self.torn = bool(self._held) and self.asked > PATIENCE
        if not self._held or self.torn:
            self.stop()
