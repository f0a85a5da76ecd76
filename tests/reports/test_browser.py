"""The pages in a real browser: nothing runs, nothing is asked for, and people can use them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from reports.chromium import Chromium, chromium, program
from reports.comparing import ARMS, MORE, comparison, write_comparison_file
from reports.reading import Page
from typer.testing import CliRunner

from scoreline.cli import app
from scoreline.reports import jsonl
from scoreline.reports.compare.page import write_comparison
from scoreline.reports.history import read_history
from scoreline.reports.page import render, write_report

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium on this machine")

HOSTILE = (
    '<script>document.title = "owned"</script><img src="http://planted.example/i.png" '
    "onerror=\"document.title='owned'\">"
    "<a href=\"javascript:document.title='owned'\">x</a>[x](javascript:alert(1)) **bold** </div></style></main>"
    '<meta http-equiv="refresh" content="0;url=http://planted.example/"><iframe src="//planted.example"></iframe>'
)

RIGHT_TO_LEFT = "كم يساوي ٣ + ٨؟ 3 + 8 = 11 ← נכון"

RECIPE = """
name = "planted"
folder = "{folder}"
reward = ["arithmetic_answer"]

[model]
path = "tiny"
device = "cpu"

[data]
level = 1

[sampling]
max_completion_length = 8

[train]
steps = 3
prompts_per_step = 4
num_generations = 4

[eval]
prompts = 8
k = 2

[watch]
completions_every = 1
"""


@dataclass(frozen=True)
class Finding:
    """What a finding looks like to the page."""

    name: str
    severity: str
    title: str
    evidence: tuple[str, ...]
    cause: str
    change: str
    steps: tuple[int, ...]
    samples: tuple[str, ...]


FINDINGS = (
    Finding(
        "a", "alarm", f"Accuracy falls {HOSTILE}", (HOSTILE, "b"), HOSTILE, "objective.kl.beta", (1, 2), (HOSTILE,)
    ),
    Finding("b", "warning", "The clip never binds", ("0 of 12 updates",), "small steps", "", tuple(range(40)), ()),
    Finding("c", "note", "Loss is zero, rightly", (), "", "", (), ("train:1",) * 20),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, really trained, in whose answers and questions somebody planted things."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "planted.toml").write_text(RECIPE.format(folder=folder.as_posix()), encoding="utf-8")
    trained = CliRunner().invoke(app, ["train", str(folder / "planted.toml")])
    assert trained.exit_code == 0, trained.output
    plant(folder / "planted")
    return folder / "planted"


def plant(folder: Path) -> None:
    """Hostile text in the first questions and answers, right-to-left text in the next, a very long one in the last."""
    for file in (*folder.glob("completions/step-*.jsonl"), folder / "evaluation.jsonl"):
        rows = jsonl.read(file)
        answers = [sample for row in rows for sample in row.get("samples", [row])]
        for answer, text in zip(answers, (HOSTILE, RIGHT_TO_LEFT, "9" * 20_000), strict=False):
            answer |= {"prompt": text, "completion": text}
            if "tokens" in answer:  # [piece, advantage]
                answer["tokens"] = [[text if i == 0 else "", token[1]] for i, token in enumerate(answer["tokens"])]
        file.write_text("".join(jsonl.encode(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def report(run: Path) -> Path:
    page = run / "report.html"
    page.write_text(render(read_history(run), FINDINGS), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = comparison(arms=ARMS | MORE, curves=True)
    found["arms"][1] |= {"title": HOSTILE[:90], "formula": HOSTILE}
    found["arms"][0]["runs"][1] |= {"failed": HOSTILE}
    found["claims"][0] |= {"text": HOSTILE, "why": RIGHT_TO_LEFT}
    return write_comparison(write_comparison_file(tmp_path_factory.mktemp("comparison"), found))


@pytest.fixture(scope="module")
def inspected(run: Path) -> Path:
    made = CliRunner().invoke(app, ["inspect", str(run), "--step", "1", "--sample", "0", "--html"])
    assert made.exit_code == 0, made.output
    return run / "inspect.html"


@pytest.fixture(params=["report", "compared", "inspected"])
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def test_the_browser_would_notice(browser: Chromium, tmp_path: Path) -> None:
    naughty = tmp_path / "naughty.html"
    naughty.write_text(f"<title>mine</title>{HOSTILE[: HOSTILE.index('<meta')]}<script>throw Error('seen')</script>")
    seen = browser.open(naughty)
    assert "http://planted.example/i.png" in seen.requests
    assert any("seen" in line for line in seen.console)
    assert browser.evaluate("document.title") == "owned"
    forbidden = tmp_path / "forbidden.html"
    policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
    forbidden.write_text(f"{policy}<title>mine</title><script>document.title = 'owned'</script>")
    assert any("Content Security Policy" in line for line in browser.open(forbidden).console)
    assert browser.evaluate("document.title") == "mine"


def test_nothing_runs_and_nothing_is_asked_for(browser: Chromium, page: Path) -> None:
    seen = browser.open(page)
    assert seen.console == []
    assert seen.requests == [page.resolve().as_uri()]
    assert "owned" not in browser.evaluate("document.title")
    kinds = set(browser.evaluate("[...document.querySelectorAll('*')].map(e => e.localName)"))
    assert not {"script", "img", "iframe", "object", "form", "link", "base", "video"} & kinds
    addresses = browser.evaluate("[...document.querySelectorAll('[href]')].map(e => e.getAttribute('href'))")
    assert [address for address in addresses if not address.startswith("#")] == []
    assert browser.evaluate("document.querySelectorAll('main, body > header, body > footer').length") == 3


def test_what_was_planted_is_seen_as_text(browser: Chromium, page: Path) -> None:
    browser.open(page)
    seen = browser.evaluate("document.body.innerText")
    assert HOSTILE in seen
    assert RIGHT_TO_LEFT in seen or page.name == "inspect.html"  # it shows the first question alone


def test_right_to_left_text_has_its_direction(browser: Chromium, report: Path) -> None:
    browser.open(report)
    script = "[...document.querySelectorAll('.text')].filter(e => e.innerText.startsWith('كم'))"
    directions = browser.evaluate(f"{script}.map(e => getComputedStyle(e).direction)")
    assert directions
    assert set(directions) == {"rtl"}


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_page_is_wider_than_its_window(browser: Chromium, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width


def test_letters_of_a_drawing_are_readable_on_a_phone(browser: Chromium, page: Path) -> None:
    browser.open(page, width=390)
    heights = browser.evaluate(
        "[...document.querySelectorAll('svg.plot text')].map(e => e.getBoundingClientRect().height).filter(h => h)"
    )
    assert [height for height in heights if height <= 8] == []


def test_a_dark_room_and_paper(browser: Chromium, page: Path) -> None:
    browser.open(page, dark=True)
    dark = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    browser.open(page)
    light = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (light, dark) == ("rgb(251, 250, 247)", "rgb(20, 24, 29)")
    browser.open(page, width=760)
    browser.dress(media="print", dark=True)
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= 760
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert browser.paper().startswith(b"%PDF")


def test_a_screen_reader_finds_its_way(browser: Chromium, page: Path) -> None:
    browser.open(page)
    told = browser.roles()
    kinds = [role for role, _ in told]
    assert {"banner", "main", "contentinfo", "heading", "table", "columnheader", "rowheader", "row"} <= set(kinds)
    assert [
        name for role, name in told if role in ("image", "img", "figure", "radio", "table", "region") and not name
    ] == []
    assert kinds.count("columnheader") >= 3


ORDER = """
[...document.querySelector('#arms-caption').closest('table').querySelectorAll('tbody tr')]
  .map(row => [row.getBoundingClientRect().top, row.querySelector('th').firstChild.textContent])
  .sort((a, b) => a[0] - b[0]).map(row => row[1])
"""


def test_a_table_is_sorted_with_the_keyboard_alone(browser: Chromium, tmp_path: Path) -> None:
    page = write_comparison(write_comparison_file(tmp_path, comparison()))
    browser.open(page)
    written = [title for title, *_ in ARMS.values()]
    assert browser.evaluate(ORDER) == written
    browser.evaluate("document.querySelector('.up0').focus()")
    for _ in range(3):  # arm smallest, arm largest, final smallest, final largest
        browser.press("ArrowRight", 39)
    assert (
        browser.evaluate("document.activeElement.getAttribute('aria-label')") == "sort by final accuracy, largest first"
    )
    best = sorted(written, key=lambda title: -finals()[title])
    assert browser.evaluate(ORDER) == best
    browser.press("ArrowLeft", 37)
    assert browser.evaluate(ORDER) == best[::-1]
    outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def finals() -> dict[str, float]:
    return {arm["title"]: arm["measures"]["final"]["mean"] for arm in comparison()["arms"]}


def test_columns_stand_under_their_heads_and_letters_do_not_meet(browser: Chromium, compared: Path) -> None:
    browser.open(compared)
    heads, cells = (
        browser.evaluate(
            f"[...document.querySelector('#arms-caption').closest('table').querySelectorAll('{row} > *')]"
            ".map(e => Math.round(e.getBoundingClientRect().right))"
        )
        for row in ("thead tr", "tbody tr:first-child")
    )
    assert heads == cells
    assert heads == sorted(set(heads))


def test_the_two_views_of_the_answers_are_switched_without_a_script(browser: Chromium, run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    assert "script" not in Page(html).tags
    assert len(re.findall('name="view"', html)) in (0, 2)
    browser.open(run / "report.html")
    assert browser.evaluate("document.querySelectorAll('.answer').length") > 4


def test_a_page_that_follows_a_run_is_read_again_by_itself(browser: Chromium, run: Path, tmp_path: Path) -> None:
    page = tmp_path / "followed.html"
    page.write_text(render(read_history(run), refresh=1), encoding="utf-8")
    seen = browser.open(page)
    page.write_text(page.read_text(encoding="utf-8").replace("<title>", "<title>newer "), encoding="utf-8")
    browser.again()
    assert browser.evaluate("document.title").startswith("newer ")
    assert seen.requests == 2 * [page.resolve().as_uri()]
    assert seen.console == []
