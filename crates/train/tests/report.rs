//! `alexnet report`: one page that needs nothing else, and its plots as files.

mod command;

use command::{Place, SHORT};

#[test]
fn a_page_of_two_runs() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 2 --log-every 1 --out first"));
    place.succeed(&format!("{SHORT} --epochs 1 --lr 0.02 --out second"));
    let out = place.succeed("report first second -o page.html --svg plots --mistakes 5 --device cpu");
    assert!(out.starts_with("wrote page.html: ") && out.trim_end().ends_with(" kB"), "{out}");
    let page = String::from_utf8(place.read("page.html")).unwrap();
    for part in [
        "<title>first, second – alexnet report</title>",
        "name=\"viewport\"",
        "prefers-color-scheme:dark",
        "<h2>Test of first</h2>",
        "20 test images of sample",
        "<h2>Most confident mistakes of second</h2>",
        "<h2>First-layer filters of second</h2>",
        "<h2>Settings that differ</h2>",
        "<tr><th scope=\"row\">lr</th><td>0.01</td><td>0.02</td></tr>",
        "settings are equal</summary>",
        "<h2>Confusions compared</h2>",
        "second against first",
        "Training loss per step",
        "first, epoch 2: ",
        "airplane taken for automobile",
    ] {
        assert!(page.contains(part), "no `{part}`");
    }
    // Five mistakes and the filters of each run, nothing from anywhere else, no script.
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 12);
    assert_eq!(page.matches("<svg").count(), 5 + 2 * 2 + 1);
    for word in ["http:", "https:", "src=\"//", "@import", "url(", "<script", "<link"] {
        let found = page.find(word).map(|at| &page[at.saturating_sub(40)..(at + 40).min(page.len())]);
        assert!(found.is_none(), "{word}: {found:?}");
    }
    let plots = [
        "accuracy",
        "first-classes",
        "first-confusion",
        "learning-rate",
        "loss",
        "second-against-first",
        "second-classes",
        "step-loss",
    ];
    let names = place.names("plots");
    assert!(plots.iter().all(|plot| names.contains(&format!("{plot}.svg"))) && names.len() == 10, "{names:?}");
    let svg = String::from_utf8(place.read("plots/loss.svg")).unwrap();
    assert!(svg.starts_with("<svg class=\"plot\"") && svg.contains("xmlns=\"http://www.w3.org/2000/svg\""), "{svg}");
    // Which curve is whose.
    assert!(svg.contains(">first</text>") && svg.contains(">second</text>") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(svg.contains("viewBox=\"0 0 480 354\""), "{svg}");

    place.fail("report first -o page.html", 1, &["page.html already exists", "--force"]);
    let out = place.succeed("report first -o page.html --force --no-test");
    assert!(out.contains("page.html"));
    let page = String::from_utf8(place.read("page.html")).unwrap();
    assert!(!page.contains("<h2>Test") && page.contains("<h2>Configuration</h2>"));
    place.fail("report nowhere", 1, &["no such folder: nowhere", "hint: "]);
    place.fail("report first --data nowhere -o x.html --device cpu", 1, &["nowhere"]);
}

#[test]
fn a_run_without_an_epoch_has_a_page_too() {
    let place = Place::new();
    place.succeed(&format!("{SHORT} --epochs 0 --out run"));
    place.succeed("report run --device cpu");
    let page = String::from_utf8(place.read("report.html")).unwrap();
    assert!(page.contains("no epochs yet") && !page.contains("NaN") && !page.contains("inf%"));
}
