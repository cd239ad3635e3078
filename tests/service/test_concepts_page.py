"""`GET /concepts` in a real browser: the list, a change, and a conflict."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from koine.artifact import Artifact
from service.page import CONCEPTS_PAGE
from tests.service.labelled import labelled
from tests.service.process import Server, bentoml_serve


@pytest.fixture(scope="module")
def server(tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    artifact = labelled(tiny_artifact, home / "artifact")
    (home / "labels").mkdir()
    settings = {"KOINE_ARTIFACT": str(artifact.path), "KOINE_PROVIDER": "cpu"}
    settings |= {"KOINE_LABELS": str(home / "labels")}
    with bentoml_serve(home, settings=settings) as server:
        yield server


def test_the_page_loads_nothing_from_elsewhere() -> None:
    assert re.findall(r"(?:src|href)=\"(?!data:)", CONCEPTS_PAGE) == []
    assert "innerHTML" not in CONCEPTS_PAGE
    assert not re.search(r"https?://", CONCEPTS_PAGE)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if not (path and driver) and os.environ.get("CI") != "true":
        pytest.skip("no Chromium: install the packages `chromium` and `chromium-driver`")
    missing = "CI must have Chromium: run tests/system_packages.sh as root"
    assert path is not None, missing
    assert driver is not None, missing
    options = ChromeOptions()
    options.binary_location = path
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_argument("--window-size=1200,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def opened(browser: Chrome, server: Server) -> None:
    """The page, all its cards drawn."""
    browser.get(f"{server.client.base_url}/concepts")
    patient(browser).until(lambda _: len(browser.find_elements(By.TAG_NAME, "h2")) == 24)


def patient(browser: Chrome) -> WebDriverWait[Chrome]:
    return WebDriverWait(browser, 30)


def card(browser: Chrome, concept: int) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, f'article[data-id="{concept}"]')


def press(browser: Chrome, concept: int, button: str) -> None:
    card(browser, concept).find_element(By.XPATH, f".//button[text()='{button}']").click()


def reads(browser: Chrome, concept: int, words: str) -> None:
    """Waits until the card says so."""
    patient(browser).until(lambda _: words in card(browser, concept).text)


def test_a_browser_lists_concepts_under_the_policy(server: Server, browser: Chrome) -> None:
    policy = server.client.get("/concepts").headers["content-security-policy"]
    assert "unsafe" not in policy
    tag = {"if-match": server.client.get("/v1/concepts/7").headers["etag"]}
    wanted = {"status": "renamed", "label": "<b>hound</b>"}
    assert server.client.patch("/v1/concepts/7", json=wanted, headers=tag).status_code == 200
    opened(browser, server)
    text = card(browser, 7).text
    assert "<b>hound</b>" in text
    assert "a hound, square lawn" in text
    assert "1 change\n" in text + "\n"
    assert "near: dog, red Square" in text
    shown = [
        each.get_attribute("src") for each in card(browser, 7).find_elements(By.TAG_NAME, "img")
    ]
    assert len(shown) == 1
    assert str(shown[0]).startswith("blob:")
    # the archive does not give two of the pictures: their captions stand there instead
    spans = card(browser, 7).find_elements(By.CSS_SELECTOR, ".pictures span")
    assert [span.text for span in spans] == ["two", "packed", "gone"]
    # the browser tells of those two; nothing is blocked
    assert [line for line in browser.get_log("browser") if "503" not in line["message"]] == []


def test_a_person_verifies_renames_and_withdraws(server: Server, browser: Chrome) -> None:
    opened(browser, server)
    reason = card(browser, 3).find_element(By.CSS_SELECTOR, '[aria-label="reason"]')
    reason.send_keys("seen <i>ten</i> of them")
    press(browser, 3, "Verify")
    reads(browser, 3, "verified")
    answer = server.client.get("/v1/concepts/3").json()
    assert (answer["status"], answer["label"]) == ("verified", "red Square")
    assert answer["history"][-1]["reason"] == "seen <i>ten</i> of them"
    assert not card(browser, 3).find_element(By.XPATH, ".//button[text()='Verify']").is_enabled()
    name = card(browser, 3).find_element(By.CSS_SELECTOR, '[aria-label="new label"]')
    name.send_keys("crimson tile")
    press(browser, 3, "Rename")
    reads(browser, 3, "crimson tile")
    assert server.client.get("/v1/concepts/3").json()["status"] == "renamed"
    press(browser, 3, "Withdraw")
    reads(browser, 3, "proposed")
    answer = server.client.get("/v1/concepts/3").json()
    assert (answer["status"], answer["label"]) == ("proposed", "red Square")
    assert [each["after"]["status"] for each in answer["history"]] == [
        *("verified", "renamed", "proposed")
    ]


def test_a_rename_without_a_label_is_told(server: Server, browser: Chrome) -> None:
    opened(browser, server)
    press(browser, 8, "Rename")
    patient(browser).until(lambda _: card(browser, 8).find_element(By.CLASS_NAME, "told").text)
    assert "label" in card(browser, 8).find_element(By.CLASS_NAME, "told").text
    assert server.client.get("/v1/concepts/8").json()["status"] == "proposed"


def test_of_two_people_the_second_sees_what_the_first_did(server: Server, browser: Chrome) -> None:
    opened(browser, server)
    tag = {"if-match": server.client.get("/v1/concepts/8").headers["etag"]}
    first = {"status": "rejected", "reason": "a wolf"}
    assert server.client.patch("/v1/concepts/8", json=first, headers=tag).status_code == 200
    assert "rejected" not in card(browser, 8).text
    press(browser, 8, "Verify")
    reads(browser, 8, "rejected")
    assert "somebody else was first" in card(browser, 8).find_element(By.CLASS_NAME, "told").text
    assert server.client.get("/v1/concepts/8").json()["status"] == "rejected"
    press(browser, 8, "Verify")  # having seen it
    reads(browser, 8, "verified")
    assert server.client.get("/v1/concepts/8").json()["status"] == "verified"


def test_more_concepts_come_when_asked_for(server: Server, browser: Chrome) -> None:
    opened(browser, server)
    browser.find_element(By.ID, "more").click()
    last = 'article[data-id="47"]'
    patient(browser).until(lambda _: browser.find_elements(By.CSS_SELECTOR, last))
    assert "Straße" in card(browser, 40).text
