"""The pictures of docs/reports.md: python docs/images/make.py RUN COMPARISON (folders); needs Chromium."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

from reports.chromium import chromium  # noqa: E402

from scoreline.reports.compare.page import write_comparison  # noqa: E402
from scoreline.reports.page import write_report  # noqa: E402

PHONE, DESK = (390, 1500), (1280, 1500)


def main(run: Path, comparison: Path) -> None:
    """Each page on both screens, in light and dark."""
    pages = {"report": write_report(run), "comparison": write_comparison(comparison)}
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        for name, page in pages.items():
            for screen, (width, height) in {"phone": PHONE, "desk": DESK}.items():
                for mode in ("", "-dark"):
                    browser.open(page, width=width, height=height, dark=bool(mode))
                    browser.picture(HERE / f"{name}-{screen}{mode}.png", whole=False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
