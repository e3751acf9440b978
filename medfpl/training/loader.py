"""Batches prepared ahead by worker processes, whose errors arrive as the one line they were."""

import signal
from collections.abc import Generator

from torch.utils.data import DataLoader, Dataset

from medfpl.errors import MedfplError
from medfpl.training.data import Batch, TrainingBatches

AHEAD = 4


class _Careful(Dataset[Batch | MedfplError]):
    """Steps ``first`` onwards; an error for the user comes as a value, for a worker would wrap it in a traceback."""

    def __init__(self, batches: TrainingBatches, first: int) -> None:
        self._batches, self._first = batches, first

    def __len__(self) -> int:
        return len(self._batches) - self._first

    def __getitem__(self, index: int) -> Batch | MedfplError:
        try:
            return self._batches[self._first + index]
        except MedfplError as error:
            return error


def load_batches(batches: TrainingBatches, first: int, *, workers: int, pin: bool) -> Generator[Batch]:
    """Yield the batches of steps ``first`` onwards, in order, from ``workers`` processes (0: this one).

    Raises:
        MedfplError: what a worker met, or that one died.
    """
    if first >= len(batches):
        return
    loader: DataLoader[Batch | MedfplError] = DataLoader(
        _Careful(batches, first),
        batch_size=None,
        # The default sampler would make a list of all steps, and a budget of minutes has no last one.
        sampler=range(len(batches) - first),
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=_leave_signals_to_the_parent,
        pin_memory=pin,
    )
    try:
        for batch in loader:
            if isinstance(batch, MedfplError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise MedfplError(
            "a process that prepares batches died", "out of memory? lower data.workers or data.cache_mb"
        ) from error


def _leave_signals_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
