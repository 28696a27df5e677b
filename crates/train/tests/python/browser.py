"""Looks at the pages: browser.py CHROMIUM FOLDER SCREENSHOTS ADDRESS CLASS SHARE"""
import base64
import pathlib
import sys
from playwright.sync_api import expect, sync_playwright

chromium, folder, shots, address, name, share = sys.argv[1:]
folder, shots = pathlib.Path(folder), pathlib.Path(shots)

# Files dropped by a person, as the page sees them.
DROP = """files => {
  const transfer = new DataTransfer();
  for (const [text, name] of files) {
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
  }
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def drop(page, *files):
    page.evaluate(DROP, [[base64.b64encode((folder / file).read_bytes()).decode(), file] for file in files])


def best(page):
    """Class and share of the first bar."""
    first = page.locator("#bars .bar").first.locator(":scope > span")
    return [first.nth(0).text_content(), first.nth(1).text_content()]


def fits(page, what):
    """Nothing sticks out of a narrow page."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{what} is {wide} pixels too wide"


def serve(page, label, is_phone):
    page.goto(address)
    expect(page.locator("#name")).to_have_text("cifar AlexNet, 10 classes: airplane, automobile, bird, …")
    # A phone has two ways to choose, with its camera and without.
    expect(page.locator("#shoot")).to_be_visible(visible=is_phone)
    assert page.locator("#camera").get_attribute("capture") == "environment"
    assert page.locator("#file").get_attribute("capture") is None
    expect(page.locator("#drop")).to_contain_text("Choose pictures" if is_phone else "Drop pictures here")

    drop(page, "picture.png")
    expect(page.locator("#result.shown")).to_be_visible(timeout=60_000)
    assert best(page) == [name, share], f"the page says {best(page)}, predict says {[name, share]}"
    assert page.locator("#bars .bar").count() == 10
    # Five convolutions, their pictures loaded.
    expect(page.locator("#layers h3")).to_have_count(5)
    assert page.evaluate("[...document.images].filter(i => i.src).every(i => i.complete && i.naturalWidth > 0)")
    assert page.locator("#list button").count() == 0
    fits(page, f"serve, {label}")
    page.screenshot(path=shots / f"serve-{label}.png", full_page=True)
    drop(page, "broken.png")
    expect(page.locator("#error")).not_to_be_empty()
    expect(page.locator("#result.shown")).to_have_count(0)

    # The inputs; the same file twice is two events.
    for file in ["#file", "#camera", "#camera"]:
        page.set_input_files(file, folder / "picture.png")
        expect(page.locator("#layers h3")).to_have_count(5)
        assert best(page) == [name, share] and page.locator("#error").text_content() == ""

    # Several: a card each, the first readable one shown, the others by a click or the keyboard.
    drop(page, "broken.png", "picture.png", "other.png")
    cards = page.locator("#list button")
    expect(cards).to_have_count(3)
    expect(page.locator("#status")).to_be_empty()
    assert [cards.nth(i).get_attribute("aria-pressed") for i in range(3)] == ["false", "true", "false"]
    expect(cards.nth(0).locator(".wrong")).not_to_be_empty()
    expect(cards.nth(1)).to_contain_text(name)
    assert best(page) == [name, share]
    cards.nth(2).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#size")).to_contain_text("other.png, 64×48")
    expect(page.locator("#layers h3")).to_have_count(5)
    fits(page, f"several pictures, {label}")
    page.screenshot(path=shots / f"several-{label}.png")
    cards.nth(0).click()
    expect(page.locator("#error")).to_contain_text("broken.png: ")

    # Too large for the server: said without an upload.
    (folder / "large.png").write_bytes(bytes(2 << 20))
    page.set_input_files("#file", folder / "large.png")
    expect(page.locator("#error")).to_contain_text("2.0 MiB; this server takes up to 1.0 MiB")

    examples = page.locator("#examples button")
    expect(examples).to_have_count(10)
    examples.nth(3).click()
    expect(page.locator("#size")).to_contain_text("cat, 32×32")
    expect(page.locator("#curl")).to_have_text(f"curl -F file=@photo.jpg {address.rstrip('/')}/predict")
    page.locator("#copy").click()
    expect(page.locator("#copy")).to_have_text("Copied")
    # The policy lets nothing else run or load.
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    page.evaluate("const script = document.createElement('script'); script.text = 'document.title=2'; document.body.append(script)")
    assert "AlexNet" in page.title(), page.title()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    for scheme in ["light", "dark"]:
        for width, height in [(1280, 800), (390, 844)]:
            label = f"{scheme}-{width}"
            is_phone = width < 600
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                has_touch=is_phone,
                is_mobile=is_phone,
                permissions=["clipboard-read", "clipboard-write"],
            )
            page = context.new_page()
            wrong, asked = [], []
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))

            serve(page, label, is_phone)
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
