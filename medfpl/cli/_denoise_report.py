"""The page of ``medfpl denoise --report``: collected while the run works, written at its end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medfpl.cli.output import Output, as_known
from medfpl.pipeline.engine import Denoised, Engine, Recipe
from medfpl.pipeline.extras import check_page
from medfpl.pipeline.jobs import Job, Plan
from medfpl.pipeline.run import Outcome, Wishes
from medfpl.scan import Scan

if TYPE_CHECKING:
    from medfpl.report import Collector
    from medfpl.saliency.maps import Maps
    from medfpl.saliency.trust import Assessment


@dataclass(frozen=True)
class Report:
    """Where the page goes and what it has so far."""

    target: Path
    overwrite: bool
    collector: "Collector"

    def collect(
        self,
        job: Job,
        before: Scan,
        result: Denoised,
        maps: "Maps | None" = None,
        assessment: "Assessment | None" = None,
    ) -> None:
        """Keep what the page shows of one file, with feature maps and flags where there are some; from any thread."""
        from medfpl.report.evidence import flags_of, maps_of

        shown = None if maps is None else maps_of(maps)
        flags = [] if assessment is None else flags_of(assessment)
        self.collector.add(job.path, before, result, maps=shown, flags=flags)

    def write(
        self, out: Output, recipe: Recipe, engine: Engine | None, outcomes: Sequence[Outcome], seed: int
    ) -> Path | None:
        """Write the page and return where it is; None if there is nothing to show or it cannot be written."""
        from medfpl.report import about_engine, write_page

        if not self.collector.series():
            return None
        refused = tuple(as_known(o.error).message for o in outcomes if o.error is not None)
        kept = sum(o.status == "kept" for o in outcomes)
        try:
            about = about_engine(recipe, engine, refused=refused, kept=kept, seed=seed)
            write_page(self.collector, about, self.target, overwrite=self.overwrite)
        except Exception as error:
            out.error(error, str(self.target))
            return None
        return self.target


@contextmanager
def reporting(target: Path | None, work: Plan, wishes: Wishes) -> Iterator[Report | None]:
    """Yield what collects the page, None where none is wished for; its temporary data ends with the block.

    Raises:
        UsageError: if ``target`` is no name of a page, or that of an input or output.
        TargetExists: if it exists; a resumed run replaces the page.
    """
    if target is None:
        yield None
        return
    overwrite = wishes.overwrite or wishes.resume
    check_page(target, [job.path for job in work.jobs], overwrite=overwrite)
    from medfpl.report import Collector

    with Collector([job.path for job in work.jobs], allow_burned_in=wishes.allow_burned_in) as collector:
        yield Report(target, overwrite, collector)
