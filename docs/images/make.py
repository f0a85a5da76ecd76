"""The pictures of docs/reports.md: python docs/images/make.py RUN COMPARISON (folders); needs Chromium."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from reports.chromium import chromium  # noqa: E402

from scoreline.config.inspect import Place, inspect  # noqa: E402
from scoreline.reports.compare.page import write_comparison  # noqa: E402
from scoreline.reports.inspect.page import write_page  # noqa: E402
from scoreline.reports.page import write_report  # noqa: E402

PHONE, DESK = (390, 1500), (1280, 1500)

PICTURES = {
    "report-phone": ("report", PHONE, False),
    "report-desk-dark": ("report", DESK, True),
    "inspect-desk": ("inspect", DESK, False),
    "inspect-phone": ("inspect", PHONE, False),
    "comparison-desk": ("comparison", DESK, False),
    "comparison-phone": ("comparison", PHONE, False),
    "comparison-phone-dark": ("comparison", PHONE, True),
}
"""Which page, on which screen, in a dark room or not."""


def main(run: Path, comparison: Path) -> None:
    """Writes the pictures beside this file."""
    told = write_page(run, inspect(run, Place(step=1)))
    pages = {"report": write_report(run), "inspect": told, "comparison": write_comparison(comparison)}
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        for name, (page, (width, height), dark) in PICTURES.items():
            browser.open(pages[page], width=width, height=height, dark=dark)
            browser.picture(HERE / f"{name}.png", whole=False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
