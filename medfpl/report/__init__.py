"""One self-contained HTML page of a run: images before and after, flags, noise, method and limits, without identity."""

from medfpl.report.collector import Collector
from medfpl.report.page import About, about_engine, write_page

__all__ = ["About", "Collector", "about_engine", "write_page"]
