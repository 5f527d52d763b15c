"""The page in a real browser: upload a clip, wait, read the verdict, open the report. Light and dark, wide and phone.

Set DEEPFAKE_SCREENSHOTS to a folder to keep pictures of every step.
"""

import os
import shutil
from pathlib import Path

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
WIDE, PHONE = (1100, 900), (390, 844)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    pytest.importorskip("selenium", reason="needs selenium to drive a browser")
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver (Debian: chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.set_page_load_timeout(60)
    yield browser
    browser.quit()


def look(browser, size, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE},
    )


def picture(browser, name, size):
    """Keeps a full-page screenshot if a folder for them is named."""
    folder = os.environ.get("DEEPFAKE_SCREENSHOTS")
    if folder:
        height = browser.execute_script("return document.documentElement.scrollHeight")
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": size[0], "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE},
        )
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def wait(browser, condition, what, seconds=90):
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, seconds, ignored_exceptions=[StaleElementReferenceException]).until(condition, what)


def card(browser, name):
    """The list item of a video."""
    # In one call: the list changes under our hands.
    return browser.execute_script(
        'return [...document.querySelectorAll("li.video")].find((e) => e.querySelector("h3").textContent === '
        "arguments[0])",
        name,
    )


def contrast(browser, selector):
    """WCAG contrast of an element's text against the nearest opaque ground behind it."""
    return browser.execute_script(
        """
        const part = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
        const light = (c) => {
            const [r, g, b] = c.match(/[\\d.]+/g).map(Number);
            return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
        };
        const shown = (e) => e.offsetParent && e.textContent.trim();
        return [...document.querySelectorAll(arguments[0])].filter(shown).map((e) => {
            let ground = e;
            while (ground.parentElement && /rgba\\(.*, 0\\)|transparent/.test(getComputedStyle(ground).backgroundColor))
                ground = ground.parentElement;
            const [a, b] = [light(getComputedStyle(e).color), light(getComputedStyle(ground).backgroundColor)].sort();
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        });""",
        selector,
    )


def complaints(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def foreign_requests(browser, address):
    """Addresses outside the server that pages asked for."""
    import json

    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    return [u for u in urls if not u.startswith((address, "data:", "chrome:", "about:", "blob:"))]


@pytest.fixture(scope="module")
def server(start, tmp_path_factory, tiny_model):
    """Of its own: the page lists every video of its server, those of other tests too."""
    return start(tmp_path_factory.mktemp("page"), tiny_model, "--workers", 2, "--limit-mb", 5, "--queue", 30)


@pytest.fixture(scope="module")
def judged(browser, server, clips):
    """Uploads the two-person clip through the page, as a person does, and waits for the verdict."""
    from selenium.webdriver.common.by import By

    look(browser, WIDE, "light")
    # Between a verdict and its report lies a moment that a page which asks once a second may miss. So the first answer
    # in which a video is done is shown as it stood a moment before: the same verdict, its report still being made.
    before = """
        const ask = window.fetch, held = new Set();
        window.fetch = async (address, ...rest) => {
            const answer = await ask(address, ...rest);
            if (!String(address).includes("/videos?")) return answer;
            const videos = (await answer.json()).map((v) => v.state !== "done" || held.has(v.id) || !held.add(v.id) ? v
                : { ...v, state: "running", stage: "explaining", share: 0.9, report: null });
            return new Response(JSON.stringify(videos), { status: answer.status, headers: answer.headers });
        };"""
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": before})
    browser.get(server.address)
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    wait(browser, lambda b: "5 MB" in b.find_element(By.ID, "terms").text, "the page states its limit")
    browser.find_element(By.ID, "file").send_keys(f"{clips['two']}\n{clips['no_face']}")
    found = wait(
        browser,
        lambda b: (c := card(b, "two.mp4")) and c.get_attribute("data-state") == "done" and c,
        "a verdict on two.mp4",
    )
    wait(
        browser,
        lambda b: (c := card(b, "no_face.mp4")) and c.get_attribute("data-state") == "done",
        "a verdict on no_face.mp4",
    )
    return found


def test_the_verdict_is_read_from_the_page(browser, judged):
    assert "UNSURE" in judged.text and "Another person looks altered (p2)" in judged.text and "2 people" in judged.text
    assert "NO FACE" in card(browser, "no_face.mp4").text
    assert complaints(browser) == []


def test_the_verdict_is_there_before_its_report(browser, judged):
    """The card said so while the report was still being made: it was seen with the verdict and without a link."""
    assert judged.get_attribute("data-early") == "yes"


def test_the_report_opens(browser, server, judged):
    from selenium.webdriver.common.by import By

    judged.find_element(By.PARTIAL_LINK_TEXT, "Report").click()
    wait(browser, lambda b: len(b.window_handles) == 2, "the report's window")
    page = browser.window_handles[0]
    browser.switch_to.window(browser.window_handles[1])
    try:
        wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, ".verdict .badge"), "the report")
        assert browser.find_element(By.CSS_SELECTOR, ".verdict .badge").text == "UNSURE"
        assert [e.text for e in browser.find_elements(By.CSS_SELECTOR, "h3 .badge")] == ["REAL", "FAKE"]
        # Styles and pictures came through the strict policy.
        assert browser.execute_script(
            "return [...document.images].every((i) => i.naturalWidth > 0) && document.images.length > 4"
        )
        assert browser.execute_script("return getComputedStyle(document.querySelector('.card')).borderRadius") == "12px"
        for size, width in ((WIDE, "wide"), (PHONE, "phone")):
            for scheme in ("light", "dark"):
                look(browser, size, scheme)
                assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0], (
                    "nothing sticks out"
                )
                assert min(contrast(browser, "p, h1, h2, h3, li, td, th, figcaption, .badge, summary")) >= 4.5
                picture(browser, f"report-{width}-{scheme}", size)
        assert complaints(browser) == [] and foreign_requests(browser, server.address) == []
    finally:
        browser.close()
        browser.switch_to.window(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size, width", [(WIDE, "wide"), (PHONE, "phone")])
def test_the_page_fits_and_is_readable(browser, server, judged, size, width, scheme):
    look(browser, size, scheme)
    for path, name in (("/docs", "docs"), ("/", "page")):
        browser.get(server.address + path)
        if path == "/":
            wait(browser, lambda b: card(b, "two.mp4"), "the list")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
        assert min(contrast(browser, "p, h1, h2, h3, h4, li, td, .badge, button, a, code")) >= 4.5
        picture(browser, f"{name}-{width}-{scheme}", size)
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) > 380) == (scheme == "light")
    assert complaints(browser) == [] and foreign_requests(browser, server.address) == []


def test_the_list_is_narrowed_and_saved(browser, server, judged):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    look(browser, WIDE, "light")
    browser.get(server.address)
    wait(browser, lambda b: card(b, "no_face.mp4") and card(b, "two.mp4"), "the list")
    shown = lambda: sorted(
        e.find_element(By.TAG_NAME, "h3").text
        for e in browser.find_elements(By.CSS_SELECTOR, "#list > li")
        if e.is_displayed()
    )
    wait(browser, lambda b: shown() == ["no_face.mp4", "two.mp4"], "both")
    browser.find_element(By.ID, "find").send_keys("TWO")
    assert shown() == ["two.mp4"] and "1 of 2" in browser.find_element(By.ID, "count").text
    picture(browser, "page-narrowed", WIDE)
    browser.find_element(By.ID, "find").clear()
    Select(browser.find_element(By.ID, "which")).select_by_value("no-face")
    assert shown() == ["no_face.mp4"]
    href = browser.find_element(By.PARTIAL_LINK_TEXT, "CSV").get_attribute("href")
    assert "two.mp4" in server.call("GET", href[len(server.address) :])[2].decode()


def test_by_keyboard_alone(browser, server, judged):
    """Tab reaches everything in order, with a visible focus; Enter deletes after asking."""
    from selenium.webdriver.common.keys import Keys

    look(browser, WIDE, "light")
    browser.get(server.address)
    wait(browser, lambda b: card(b, "no_face.mp4"), "the list")
    reached = []
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        label = active.get_attribute("aria-label") or active.text
        reached.append(label)
        if label == "Choose videos or pictures":
            assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", active) == "solid"
        if label == "Delete: no_face.mp4":
            break
    assert (
        reached[:2] == ["API", "Choose videos or pictures"]
        and "Report: no_face.mp4" in reached
        and reached[-1] == "Delete: no_face.mp4"
    )
    active.send_keys(Keys.ENTER)
    assert active.text == "Really delete?" and card(browser, "no_face.mp4")
    active.send_keys(Keys.ENTER)
    wait(browser, lambda b: card(b, "no_face.mp4") is None, "the video is gone")
    assert "no_face.mp4" not in [v["name"] for v in server.json("GET", "/api/videos")[1]]


def test_a_dropped_file_and_a_refused_one(browser, server, clips, judged):
    """A drop anywhere on the page uploads; what is no video is refused in words."""
    browser.get(server.address)
    wait(browser, lambda b: card(b, "two.mp4"), "the list")
    browser.execute_script("""
        const transfer = new DataTransfer();
        transfer.items.add(new File(["this is no video"], "letter.mp4"));
        transfer.items.add(new File([], "empty.mp4"));
        for (const kind of ["dragenter", "dragover", "drop"])
            document.body.dispatchEvent(
                new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: transfer}));""")
    refused = wait(browser, lambda b: (c := card(b, "letter.mp4")) and "Not uploaded" in c.text and c, "a refusal")
    assert "not a" in refused.text.lower() and "the file is empty" in card(browser, "empty.mp4").text
    picture(browser, "page-refused", WIDE)


def test_an_address_where_the_server_fetches_some(browser, server, start, tmp_path_factory, tiny_model, clips):
    """No field otherwise. A refusal stands on the page in words; a video that is there is judged."""
    import functools
    import http.server
    import threading

    from selenium.webdriver.common.by import By

    pytest.importorskip("yt_dlp", reason="the extra `url`")
    answers = functools.partial(http.server.SimpleHTTPRequestHandler, directory=clips["real"].parent)
    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answers)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    browser.get(server.address)
    wait(browser, lambda b: b.find_element(By.ID, "about").text, "what the server is")
    assert not browser.find_element(By.ID, "url").is_displayed()
    options = ("--workers", 1, "--allow-urls", "--allow-url-network", "127.0.0.1/32", "--explain", "none")
    fetching = start(tmp_path_factory.mktemp("fetching"), tiny_model, *options)
    look(browser, PHONE, "dark")
    browser.get(fetching.address)
    field = wait(browser, lambda b: (f := b.find_element(By.ID, "url")).is_displayed() and f, "the field")
    field.send_keys("http://127.0.0.2:1/secret.mp4\n")
    refused = wait(browser, lambda b: (c := card(b, "http://127.0.0.2:1/secret.mp4")) and "Not" in c.text and c, "no")
    assert "private network" in refused.text
    field.send_keys(f"http://127.0.0.1:{host.server_port}/fake.mp4\n")
    wait(browser, lambda b: (c := card(b, "fake (127.0.0.1)")) and "FAKE" in c.text, "the verdict")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    picture(browser, "address-phone-dark", PHONE)
    host.shutdown()


def test_the_token_is_asked_for_on_the_page(browser, start, tmp_path_factory, tiny_model):
    from selenium.webdriver.common.by import By

    folder = tmp_path_factory.mktemp("token")
    (folder / "token").write_text("correct-horse-battery")
    server = start(folder / "store", tiny_model, "--workers", 1, "--token-file", folder / "token")
    look(browser, PHONE, "dark")
    browser.get(server.address + "/docs")
    browser.find_element(By.ID, "token").send_keys("wrong-horse-battery\n")
    wait(browser, lambda b: b.find_elements(By.ID, "wrong"), "no")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    assert min(contrast(browser, "p, h1, label, button, code")) >= 4.5
    picture(browser, "login-phone-dark", PHONE)
    browser.find_element(By.ID, "token").send_keys("correct-horse-battery\n")
    wait(browser, lambda b: "API" in b.find_element(By.TAG_NAME, "h1").text, "the page that was asked for")
    browser.get(server.address)
    wait(browser, lambda b: b.find_element(By.ID, "logout").is_displayed(), "a way out")
    assert browser.execute_script("return document.cookie") == "", "scripts do not see the session"
    browser.find_element(By.CSS_SELECTOR, "#logout button").click()
    wait(browser, lambda b: b.find_elements(By.ID, "token"), "asked again")
    complaints(browser)  # the refusals themselves are told there


def test_a_server_killed_in_mid_work_and_started_again(browser, start, tmp_path_factory, tiny_model, clips):
    """The page says that nobody answers, tries again by itself, and shows the verdict; nothing is uploaded twice."""
    from selenium.webdriver.common.by import By

    store = tmp_path_factory.mktemp("restart") / "store"
    server = start(store, tiny_model, "--workers", 1)
    look(browser, WIDE, "light")
    browser.get(server.address)
    browser.find_element(By.ID, "file").send_keys(str(clips["two"]))
    wait(browser, lambda b: (c := card(b, "two.mp4")) and c.get_attribute("data-state"), "it is taken")
    server.stop(kill=True)
    wait(browser, lambda b: b.find_element(By.ID, "offline").is_displayed(), "told that nobody answers")
    picture(browser, "page-offline", WIDE)
    again = start(store, tiny_model, "--workers", 1, "--port", server.port)
    wait(browser, lambda b: (c := card(b, "two.mp4")) and c.get_attribute("data-state") == "done", "the verdict")
    assert (
        not browser.find_element(By.ID, "offline").is_displayed() and len(again.json("GET", "/api/v1/videos")[1]) == 1
    )
    complaints(browser), foreign_requests(browser, server.address)  # what failed while nobody answered
