"""The page in a real browser: sorting, filtering, the threshold, maps, keys, and nothing from the network."""

import os
import shutil
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest

from skcsflow.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright")

pytestmark = pytest.mark.slow

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(
                executable_path=chromium, args=["--no-sandbox"] if is_root else []
            )
        except playwright.Error as error:
            pytest.skip(f"no Chromium is at hand: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@contextmanager
def opened(browser, path, **options):
    """A page whose errors, messages and requests fail the test."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    troubles, requests = [], []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    try:
        yield page
    finally:
        context.close()
    assert troubles == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]


@pytest.fixture(scope="module")
def shown(fitted, inspected, tmp_path_factory):
    """A labelled report, its scores and which images are defective."""
    X, y = inspected
    path = tmp_path_factory.mktemp("labelled") / "report.html"
    kinds = np.where(y < 0, "square", "good")
    names = [f"{kind} {i}" for i, kind in enumerate(kinds)]
    write_report(fitted, X, path, y=kinds.tolist(), names=names)
    return path, fitted.score_samples(X), y < 0


@pytest.fixture
def page(browser, shown):
    with opened(browser, shown[0]) as page:
        yield page


def visible_rows(page):
    """Indices of the rows that are shown, in their order."""
    rows = page.eval_on_selector_all(
        "#table tbody tr",
        "rows => rows.filter(r => !r.hidden && r.offsetHeight > 0).map(r => r.dataset.index)",
    )
    return [int(row) for row in rows]


def eventually(page, condition):
    """Wait for what a script says; the page's policy forbids Playwright's own way of waiting."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def verdicts(page):
    rows = page.eval_on_selector_all(
        "#table tbody tr", "rows => rows.map(r => [r.dataset.index, r.querySelector('.badge').textContent])"
    )
    return {int(index): verdict for index, verdict in rows}


def expected_verdicts(scores, defect, threshold):
    words = {
        (True, True): "found",
        (True, False): "missed",
        (False, True): "false alarm",
        (False, False): "passed",
    }
    pairs = zip(defect.tolist(), (scores < threshold).tolist(), strict=True)
    return dict(enumerate(words[pair] for pair in pairs))


def check_counts(page, scores, defect, threshold):
    flagged = scores < threshold
    found, alarms = (flagged & defect).sum(), (flagged & ~defect).sum()
    text = page.locator("#counts").inner_text()
    assert f"Flagged: {flagged.sum()} of {len(scores)} " in text
    assert f"Defects found: {found} of {defect.sum()} ({100 * found / defect.sum():.1f} %)" in text
    assert f"False alarms: {alarms} of {(~defect).sum()} ({100 * alarms / (~defect).sum():.1f} %)" in text
    assert verdicts(page) == expected_verdicts(scores, defect, threshold)
    return Counter(flagged.tolist())


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("Score", lambda scores, i: scores[i]),
        ("Name", lambda scores, i: (i >= 20, i)),
        ("Kind", lambda scores, i: (i >= 20, i)),
    ],
)
def test_headers_sort_up_and_down(page, shown, column, key):
    _, scores, _ = shown
    header = page.get_by_role("columnheader", name=column)
    button = header.get_by_role("button")
    rows = range(len(scores))
    if column != "Score":  # by which the page is sorted already
        assert header.get_attribute("aria-sort") is None
        button.click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert visible_rows(page) == sorted(rows, key=lambda i: key(scores, i))
    button.click()
    assert header.get_attribute("aria-sort") == "descending"
    descending = [key(scores, i) for i in visible_rows(page)]
    if column == "Kind":
        descending = [is_square for is_square, _ in descending]
    assert descending == sorted(descending, reverse=True)
    assert page.locator("th[aria-sort]").count() == 1


def test_headers_sort_by_the_keyboard(page, shown):
    page.get_by_role("button", name="Name").focus()
    page.keyboard.press("Enter")
    assert visible_rows(page) == list(range(30))
    page.keyboard.press("Space")
    assert visible_rows(page) == list(range(30))[::-1]


def test_slider_moves_the_threshold_by_keys(page, shown, fitted):
    _, scores, defect = shown
    check_counts(page, scores, defect, fitted.offset_)
    slider = page.get_by_label("Threshold of the score")
    step, first, last = (
        float(page.locator("body").get_attribute(f"data-{k}")) for k in ("step", "first", "last")
    )
    slider.focus()
    seen = set()
    for key, position in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("Home", first),
        ("End", last),
    ):
        page.keyboard.press(key)
        threshold = fitted.offset_ + position * step
        seen.add(check_counts(page, scores, defect, threshold)[True])
        assert slider.get_attribute("aria-valuetext").startswith(f"{threshold:.3f}".replace("-", MINUS))
    assert len(seen) >= 3
    assert page.locator("#use code").inner_text().startswith("detector.offset_ = ")
    page.get_by_role("button", name="Back to the detector's").click()
    check_counts(page, scores, defect, fitted.offset_)
    assert not page.locator("#use").is_visible()


def test_threshold_that_is_typed_moves_the_slider(page, shown, fitted):
    _, scores, defect = shown
    threshold = float(np.sort(scores)[14])  # equal to a score, which isn't flagged
    page.get_by_label("Threshold", exact=True).fill(repr(threshold))
    assert check_counts(page, scores, defect, threshold)[True] == 14
    assert page.locator("#use code").inner_text() == f"detector.offset_ = {threshold!r}"
    line = float(page.locator("#threshold-line").get_attribute("x1").rstrip("%"))
    step, first, last = (
        float(page.locator("body").get_attribute(f"data-{k}")) for k in ("step", "first", "last")
    )
    place = 100 * ((threshold - fitted.offset_) / step - first) / (last - first)
    assert line == pytest.approx(min(max(place, 0), 100), abs=1e-6)


def test_slider_lies_below_the_line_in_the_histogram(page):
    slider = page.locator("#slider").bounding_box()
    bars = page.locator("svg.bars").bounding_box()
    # The thumb is 20 px wide, and its middle goes from 10 px to 10 px before the end.
    assert (slider["x"] + 10, slider["width"] - 20) == pytest.approx((bars["x"], bars["width"]), abs=1)


def test_filters_by_name_verdict_and_kind(page, shown, fitted):
    _, scores, defect = shown
    flagged = scores < fitted.offset_
    page.get_by_label("Name has").fill("SQUARE 2")
    assert sorted(visible_rows(page)) == list(range(20, 30))
    assert page.locator("#shown").inner_text() == "10 of 30 match"
    page.get_by_label("Name has").fill("")
    for verdict, mask in (
        ("found", defect & flagged),
        ("flagged", flagged),
        ("missed", defect & ~flagged),
        ("passed", ~defect & ~flagged),
    ):
        page.get_by_label("Verdict").select_option(label=verdict)
        assert sorted(visible_rows(page)) == np.flatnonzero(mask).tolist()
    page.get_by_label("Verdict").select_option(label="all")
    page.get_by_label("Kind").select_option(label="good")
    assert sorted(visible_rows(page)) == list(range(20))


def test_filtered_table_follows_the_threshold(page, shown):
    _, scores, _ = shown
    page.get_by_label("Verdict").select_option(label="flagged")
    threshold = float(np.sort(scores)[7])
    page.get_by_label("Threshold", exact=True).fill(repr(threshold))
    assert sorted(visible_rows(page)) == sorted(np.argsort(scores)[:7].tolist())


@pytest.mark.parametrize(("label", "layer"), [("Anomaly maps", ".map"), ("Boxes of regions", ".boxes")])
def test_maps_and_boxes_can_be_hidden(page, label, layer):
    layers = page.locator(f"#table .frame {layer}")
    assert layers.first.is_visible()
    page.get_by_role("checkbox", name=label).press("Space")
    assert not layers.first.is_visible()
    page.get_by_role("checkbox", name=label).check()
    assert layers.first.is_visible()


def test_the_map_changes_the_picture_where_the_region_is(page, shown):
    frame = page.locator("#table .frame").first
    eventually(page, "document.querySelector('#table .frame .map').naturalWidth > 0")
    page.get_by_role("checkbox", name="Boxes of regions").uncheck()
    with_map = frame.screenshot()
    page.get_by_role("checkbox", name="Anomaly maps").uncheck()
    assert frame.screenshot() != with_map


def test_pictures_are_loaded_when_they_come_near(page):
    loaded = "[...document.querySelectorAll('#table .frame img:first-child')].filter(i => i.naturalWidth > 0).length"
    eventually(page, f"{loaded} > 0")
    n = page.evaluate(loaded)
    assert n < 30
    page.locator("#table tbody tr").last.scroll_into_view_if_needed()
    eventually(page, f"{loaded} > {n}")


def test_viewer_shows_an_image_large_by_keys(page, shown):
    _, scores, _ = shown
    worst = np.argsort(scores)[:3]
    page.locator("#table .open").first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    name = dialog.get_by_role("heading")
    assert name.inner_text() == f"square {worst[0]}"
    assert dialog.locator(".frame img").first.bounding_box()["height"] > 300
    assert dialog.locator("#position").inner_text() == "1 of 30"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert name.inner_text() == f"square {worst[2]}"
    page.keyboard.press("ArrowLeft")
    assert name.inner_text() == f"square {worst[1]}"
    listed = dialog.locator("#viewer-regions tbody tr").count()
    assert listed == dialog.locator(".boxes rect").count() > 0
    dialog.get_by_label("Anomaly map").uncheck()
    assert not dialog.locator(".map").is_visible()
    assert not page.get_by_role("checkbox", name="Anomaly maps").is_checked()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    focused = page.evaluate("document.activeElement.closest('tr').dataset.index")
    assert int(focused) == worst[1]


def test_controls_have_names_and_a_visible_focus(page):
    unnamed = page.eval_on_selector_all(
        "button, input, select",
        "all => all.filter(e => !e.closest('dialog') && !e.labels?.length && !e.ariaLabel && !e.textContent.trim()"
        " && !e.querySelector('img[alt]')).length",
    )
    assert unnamed == 0
    for _ in range(12):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid"
    headings = page.get_by_role("heading").all_inner_texts()
    assert headings == ["Inspection of 30 images", "Summary", "Scores", "Images"]
    assert page.get_by_role("table").get_by_role("row").count() == 31


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser, shown, scheme):
    with opened(browser, shown[0], color_scheme=scheme) as page:
        worst = page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const linear = [r, g, b].map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * linear[0] + .7152 * linear[1] + .0722 * linear[2];
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
  };
  let worst = { ratio: 99 };
  for (const e of document.querySelectorAll("h1, h2, p, dt, dd, small, button, label, th, td, span, summary")) {
    if (!e.textContent.trim() || !e.offsetHeight || e.disabled) continue;
    const [a, b] = [light(numbers(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst.ratio) worst = { ratio, text: e.textContent.trim().slice(0, 30), class: e.className };
  }
  return worst;
}"""


@pytest.mark.parametrize("width", [375, 320])
def test_phones_need_no_sideways_scrolling(browser, fitted, inspected, tmp_path, width):
    X, y = inspected
    long_name = "a_very_long_name_of_a_file_" * 6 + ".png"
    path = write_report(
        fitted, X[-2:], tmp_path / "report.html", y=y[-2:] < 0, names=[long_name, "b"], title=long_name
    )
    with opened(browser, path, viewport={"width": width, "height": 700}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("#table .open").first.click()
        dialog = page.get_by_role("dialog")
        assert dialog.evaluate("d => d.scrollWidth <= d.clientWidth")
        box = dialog.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_names_that_look_like_code_do_nothing(browser, fitted, inspected, tmp_path):
    evil = [
        "<script>document.title = 'hacked'</script>",
        '"><img src=x onerror="document.title=\'hacked\'">',
        "</script><script>document.title = 'hacked'</script>",
        "' onfocus='alert(1)' autofocus='",
    ]
    path = write_report(
        fitted, inspected[0][:4], tmp_path / "report.html", y=["good", *evil[:3]], names=evil, title=evil[2]
    )
    with opened(browser, path) as page:
        assert page.title() == evil[2]
        names = page.eval_on_selector_all(
            "#table tbody tr",
            "rows => rows.map(r => [+r.dataset.index, r.querySelector('.name bdi').textContent])",
        )
        assert [name for _, name in sorted(names)] == evil
        page.locator("#table .open").first.click()
        assert page.get_by_role("dialog").get_by_role("heading").inner_text() in evil
        assert page.locator("#table img:not([alt])").count() == 0


def test_a_script_that_is_not_the_pages_own_is_not_run(browser, shown, tmp_path):
    text = shown[0].read_text(encoding="utf-8")
    path = tmp_path / "report.html"
    path.write_text(
        text.replace("</main>", "<script>document.title = 'hacked'</script></main>"), encoding="utf-8"
    )
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.title() == "Inspection of 30 images"
    context.close()


def test_without_labels_the_number_flagged_changes(browser, fitted, inspected, tmp_path):
    X, _ = inspected
    scores = fitted.score_samples(X)
    with opened(browser, write_report(fitted, X, tmp_path / "report.html")) as page:
        page.get_by_label("Threshold", exact=True).fill(repr(float(np.sort(scores)[12])))
        assert page.locator("#counts").inner_text() == "Flagged: 12 of 30 (40.0 %)"
        assert Counter(verdicts(page).values()) == {"flagged": 12, "passed": 18}


def test_unreadable_images_stay_flagged_wherever_the_threshold_is(browser, fitted_copy, inspected, tmp_path):
    X = [*inspected[0][:3], np.full((9, 9), np.nan)]
    fitted_copy.set_params(on_error="nan")
    with pytest.warns(UserWarning, match="NaN"):
        path = write_report(fitted_copy, X, tmp_path / "report.html", y=[1, 1, 1, -1])
    with opened(browser, path) as page:
        page.get_by_label("Threshold of the score").press("Home")
        assert verdicts(page) == {0: "passed", 1: "passed", 2: "passed", 3: "found"}
        page.get_by_label("Verdict").select_option(label="unreadable")
        assert visible_rows(page) == [3]
        page.get_by_label("Verdict").select_option(label="all")
        page.get_by_role("button", name="Score").click()
        assert visible_rows(page)[-1] == 3
        page.locator("#table .open").first.click()
        assert page.locator("#position").inner_text() == "1 of 3"


def test_report_of_nothing_but_unreadable_images_works(browser, fitted_copy, tmp_path):
    fitted_copy.set_params(on_error="nan")
    with pytest.warns(UserWarning, match="NaN"):
        path = write_report(fitted_copy, [np.full((9, 9), np.nan)] * 2, tmp_path / "report.html")
    with opened(browser, path) as page:
        assert page.locator("#shown").inner_text() == "2 of 2 match"
        assert set(verdicts(page).values()) == {"flagged"}


def test_without_scripts_the_table_can_be_read(browser, shown):
    with opened(browser, shown[0], java_script_enabled=False) as page:
        assert page.locator("noscript p").is_visible()
        assert not page.locator("#slider").is_visible()
        assert not page.locator("#filters").is_visible()
        assert page.locator("#table tbody tr").count() == 30
        assert page.locator("#table tbody tr").first.locator("td").nth(3).inner_text().startswith(MINUS)


def test_long_tables_show_more_rows_on_the_way_down(browser, fitted, inspected, tmp_path):
    X = np.concatenate([inspected[0]] * 9)[:250]
    path = write_report(fitted, X, tmp_path / "report.html", thumbnail_size=16)
    order = np.argsort(fitted.score_samples(X), kind="stable").tolist()
    with opened(browser, path) as page:
        assert visible_rows(page) == order[:200]
        assert page.locator("#shown").inner_text() == "250 of 250 match"
        page.locator("#table .open").first.press("Enter")
        page.locator("#viewer").press("ArrowRight")
        assert page.locator("#position").inner_text() == "2 of 250"
        page.keyboard.press("Escape")
        page.get_by_label("Name has").fill("X[24")
        assert sorted(visible_rows(page)) == [24, *range(240, 250)]
        page.get_by_label("Name has").fill("")
        assert visible_rows(page) == order[:200]
        page.get_by_role("button", name="Show more").scroll_into_view_if_needed()
        eventually(page, "document.querySelector('#more').hidden")
        assert visible_rows(page) == order


@pytest.mark.slow
def test_two_thousand_images_take_20_mb_and_2_s(browser, fitted, tmp_path):
    noise = np.random.RandomState(0).randint(0, 256, (8, 256, 256, 3), np.uint8)  # nothing takes more bytes
    X = [noise[i % 8] for i in range(2000)]
    path = write_report(fitted, X, tmp_path / "report.html", y=np.arange(2000) % 2)
    assert path.stat().st_size < 20e6
    loads = []
    for _ in range(3):
        with opened(browser, path) as page:
            loads.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
            assert page.locator("#table tbody tr").count() == 2000
    assert min(loads) < 2000
