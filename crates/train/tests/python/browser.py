"""Looks at the pages: browser.py CHROMIUM FOLDER SCREENSHOTS ADDRESS CLASS SHARE"""
import base64
import pathlib
import sys
from playwright.sync_api import expect, sync_playwright

chromium, folder, shots, address, name, share = sys.argv[1:]
folder, shots = pathlib.Path(folder), pathlib.Path(shots)

# A file dropped by a person, as the page sees it.
DROP = """([text, name]) => {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/png" }));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def drop(page, file):
    page.evaluate(DROP, [base64.b64encode((folder / file).read_bytes()).decode(), file])


def fits(page, what):
    """Nothing sticks out of a narrow page."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{what} is {wide} pixels too wide"


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    for scheme in ["light", "dark"]:
        for width in [1200, 390]:
            label = f"{scheme}-{width}"
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            wrong, asked = [], []
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))

            page.goto(address)
            expect(page.locator("#name")).not_to_have_text("alexnet")
            drop(page, "picture.png")
            expect(page.locator("#result.shown")).to_be_visible(timeout=60_000)
            first = page.locator("#bars .bar").first.locator(":scope > span")
            read = [first.nth(0).text_content(), first.nth(1).text_content()]
            assert read == [name, share], f"the page says {read}, predict says {[name, share]}"
            assert page.locator("#bars .bar").count() == 10
            # Five convolutions, their pictures loaded.
            assert page.locator("#layers h3").count() == 5
            assert page.evaluate("[...document.images].filter(i => i.src).every(i => i.complete && i.naturalWidth > 0)")
            fits(page, f"serve, {label}")
            page.screenshot(path=shots / f"serve-{label}.png", full_page=True)
            drop(page, "broken.png")
            expect(page.locator("#error")).to_contain_text("PNG")
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (paper == "rgb(255, 255, 255)") == (scheme == "light"), paper
            assert all(url.startswith((address.rstrip("/"), "blob:", "data:")) for url in asked), asked

            asked.clear()
            page.goto((folder / "report.html").as_uri())
            assert page.locator("svg.plot").count() >= 8 and page.locator("h1").text_content() == "run, other"
            assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
            fits(page, f"report, {label}")
            page.screenshot(path=shots / f"report-{label}.png", full_page=True)
            assert all(url.startswith(("file:", "data:")) for url in asked), asked
            assert not wrong, wrong
            context.close()
    browser.close()
