//! Folders of pictures as people have them: splits by name, nested classes, what is passed over, `--val` shares, `eval` of one
//! split, and data that change while a run is under way.

mod command;

use std::fs;
use std::path::Path;

use command::Place;

/// A short run on two classes of pictures that are told apart at once.
const TRAIN: &str = "train --arch modern --batch-size 4 --epochs 2 --device cpu --checkpoint-every 1 --data";

/// A picture of one colour.
fn picture(path: &Path, bright: bool, number: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let level = if bright { 200 } else { 20 } + number;
    image::RgbImage::from_pixel(12, 9, image::Rgb([level, level, 90])).save(path).unwrap();
}

impl Place {
    /// `count` pictures in each of the classes `ant` and `bee` below `folder`.
    fn classes(&self, folder: &str, count: u8) {
        for number in 0..count {
            picture(&self.path(&format!("{folder}/ant/{number}.png")), false, number);
            picture(&self.path(&format!("{folder}/bee/{number}.png")), true, number);
        }
    }

    /// Standard error of a command that succeeds.
    #[track_caller]
    fn notices(&self, arguments: &str) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{done:?}");
        done.error
    }
}

fn keys(record: &serde_json::Value) -> [bool; 2] {
    [record["val_acc"].is_number(), record["test_acc"].is_number()]
}

#[test]
fn validation_chooses_and_the_test_set_is_used_once() {
    let place = Place::new();
    for (folder, count) in [("d/Train", 4), ("d/valid", 2), ("d/TESTING", 1)] {
        place.classes(folder, count);
    }
    let out = place.succeed(&format!("{TRAIN} d --out run"));
    assert!(out.contains("8 training, 4 validation and 2 test images, 2 classes"), "{out}");
    assert!(out.contains("best validation accuracy ") && out.contains("% after the last epoch; "), "{out}");
    assert!(!out.contains("no separate"), "{out}");
    assert_eq!(place.metrics("run").iter().map(keys).collect::<Vec<_>>(), [[true, false], [true, true]]);
    for (flags, images) in
        [("", "2 test images"), ("--split val", "4 validation images"), ("--split train", "8 training")]
    {
        let out = place.succeed(&format!("eval run --device cpu {flags}"));
        assert!(out.contains(images), "{out}");
    }
    let out = place.succeed("data --data d show");
    let line = |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("validation").contains("4 images") && line("validation").contains("choose the best epoch"), "{out}");
    assert!(line("test").contains("2 images") && line("test").contains("once"), "{out}");
    assert!(line("bee").split_whitespace().eq(["bee", "4", "2", "1"]), "{out}");
    assert!(place.succeed("data --data d verify").contains("14 of 14 images decode."));
    // --val would be a third kind of held-out images.
    place.fail(
        &format!("{TRAIN} d --val 2 --out other"),
        2,
        &["validation images of its own", "hint: leave --val out"],
    );
}

#[test]
fn the_only_held_out_folder_is_called_what_it_is() {
    let place = Place::new();
    place.classes("v/training", 2);
    place.classes("v/validation", 2);
    let out = place.succeed(&format!("{TRAIN} v --out v-run"));
    assert!(out.contains("4 training and 4 validation images"), "{out}");
    assert!(out.contains("validation/ is used to choose the best epoch; no separate test set"), "{out}");
    assert!(out.contains("Val Acc=") && !out.contains("Test Acc="), "{out}");
    assert_eq!(place.metrics("v-run").iter().map(keys).collect::<Vec<_>>(), [[true, false]; 2]);
    assert!(place.succeed("eval v-run --device cpu").contains("4 validation images of v"));
    // With --val it becomes the test set.
    let out = place.succeed(&format!("{TRAIN} v --val 2 --out held"));
    assert!(out.contains("2 training, 2 validation and 4 test images"), "{out}");
    assert_eq!(place.metrics("held").iter().map(keys).collect::<Vec<_>>(), [[true, false], [true, true]]);

    place.classes("t/train", 2);
    place.classes("t/test", 2);
    let out = place.succeed(&format!("{TRAIN} t --epochs 1 --out t-run"));
    assert!(
        out.contains("test/ is used to choose the best epoch; no separate validation set (--val 20% makes one)"),
        "{out}"
    );
    assert_eq!(place.metrics("t-run").iter().map(keys).collect::<Vec<_>>(), [[false, true]]);

    place.classes("t/val", 1);
    place.classes("t/Dev", 1);
    place.fail("data --data t show", 1, &["t/Dev and t/val are both validation folders", "hint: keep one of them"]);
}

#[test]
fn pictures_without_held_out_ones_are_split() {
    let place = Place::new();
    place.classes("only/train", 5);
    place.classes("flat", 5);
    for data in ["only", "flat"] {
        place.fail(&format!("{TRAIN} {data} --out none"), 1, &["training pictures only", "--val 20%"]);
        assert!(!place.path("none").exists());
        assert!(place.succeed(&format!("data --data {data} verify")).contains("10 of 10 images decode."));
        for (number, val) in ["20%", "0.2", "2"].into_iter().enumerate() {
            let run = format!("{data}-{number}");
            let out = place.succeed(&format!("{TRAIN} {data} --val {val} --epochs 1 --out {run}"));
            assert!(out.contains("8 training and 2 validation images"), "{out}");
            let files = String::from_utf8(place.read(&format!("{run}/files.txt"))).unwrap();
            let held: Vec<&str> = files.lines().filter(|line| line.starts_with("val\t")).collect();
            assert!(
                held.len() == 2 && held[0].contains("ant/") && held[1].contains("bee/"),
                "one of each class: {files}"
            );
            assert_eq!(
                files,
                String::from_utf8(place.read(&format!("{data}-0/files.txt"))).unwrap(),
                "the same images"
            );
        }
        // The run's own data: what it held out, not what it was trained on.
        for flags in ["", &format!("--data {data}"), "--split val"] {
            let out = place.succeed(&format!("eval {data}-0 --device cpu {flags}"));
            assert!(out.contains("2 validation images"), "{flags}: {out}");
        }
        assert!(place.succeed(&format!("eval {data}-0 --device cpu --split train")).contains("8 training images"));
        place.succeed(&format!("train --resume {data}-0 --epochs 2"));
    }
    let others = [1, 2, 3].map(|draw| {
        place.succeed(&format!("{TRAIN} flat --val 2 --val-seed {draw} --epochs 0 --out other-{draw}"));
        place.read(&format!("other-{draw}/files.txt"))
    });
    assert!(others.iter().any(|files| *files != place.read("flat-0/files.txt")));
    for val in ["10", "0", "100%", "1.5", "0,1", "x"] {
        let done = place.run(&format!("{TRAIN} flat --val {val} --out none"));
        assert!(done.code == 2 && done.error.contains("--val"), "{val}: {done:?}");
    }
    // A class named train, with pictures and no folders in it, is a class.
    place.classes("traffic", 1);
    picture(&place.path("traffic/train/1.png"), true, 9);
    let out = place.succeed("data --data traffic show");
    assert!(out.lines().any(|line| line.starts_with("train ")) && out.contains("3 images"), "{out}");
}

#[test]
fn nested_classes_and_what_is_passed_over() {
    let place = Place::new();
    place.classes("d/train", 2);
    place.classes("d/train/ant/more/deep", 1);
    place.classes("d/val", 1);
    for name in ["train/bee/a.HEIC", "train/bee/b.heic", "val/ant/c.avif", "train/ant/notes.txt", "train/loose.png"] {
        fs::write(place.path("d").join(name), "x").unwrap();
    }
    for name in ["train/bee/.hidden.heic", "train/ant/Thumbs.db", "train/.DS_Store", "README.md"] {
        fs::write(place.path("d").join(name), "x").unwrap();
    }
    for folder in ["train/__MACOSX", "train/.ipynb_checkpoints", "extra"] {
        fs::create_dir_all(place.path("d").join(folder)).unwrap();
    }
    #[cfg(unix)]
    {
        // A loop, and a folder that is reached twice.
        std::os::unix::fs::symlink("..", place.path("d/train/ant/more/back")).unwrap();
        std::os::unix::fs::symlink("more", place.path("d/train/ant/again")).unwrap();
    }
    let said = "d: passed over 5 files: 2 .heic (convert them to JPEG";
    let done = place.run("data --data d show");
    assert!(done.code == 0 && done.error.contains(said), "{done:?}");
    for part in ["1 .avif (convert them to PNG", "1 .txt", "1 outside of the class folders", "1 folder: extra/"] {
        assert!(done.error.contains(part), "{part}: {}", done.error);
    }
    assert!(done.out.lines().any(|line| line.split_whitespace().eq(["ant", "4", "1"])), "{}", done.out);
    assert!(place.notices("data --data d verify").contains(said));
    assert!(place.notices(&format!("{TRAIN} d --epochs 0 --out run")).contains(said));
    assert!(place.notices("eval run --device cpu").contains("d/val: passed over 1 file: 1 .avif"));
    assert!(
        place.notices("predict run d/train/bee --device cpu").contains("d/train/bee: passed over 2 files: 2 .heic")
    );
    let done = place.run("report run --device cpu");
    assert!(done.code == 0 && done.error.contains("1 .avif"), "{done:?}");
    fs::create_dir_all(place.path("d/val/cat")).unwrap();
    fs::write(place.path("d/val/cat/1.heic"), "x").unwrap();
    place.fail("eval run --device cpu", 1, &["class folder d/val/cat has no picture, but 1 file: 1 .heic (convert"]);
}

#[test]
fn tiny_imagenets_layout() {
    let place = Place::new();
    for number in 0..4 {
        picture(&place.path(&format!("tiny/train/n01/images/n01_{number}.png")), false, number);
        picture(&place.path(&format!("tiny/train/n02/images/n02_{number}.png")), true, number);
        picture(&place.path(&format!("tiny/val/images/val_{number}.png")), number % 2 == 1, number);
        picture(&place.path(&format!("tiny/test/images/test_{number}.png")), true, number);
    }
    // One picture of the first class, three of the second, whatever the names.
    let list: String = (0..4).map(|n| format!("val_{n}.png\tn0{}\t0\t0\t9\t9\n", 2 - u8::from(n == 2))).collect();
    fs::write(place.path("tiny/val/val_annotations.txt"), &list).unwrap();
    let done = place.run(&format!("{TRAIN} tiny --epochs 1 --out run"));
    assert!(done.out.contains("8 training and 4 validation images, 2 classes"), "{done:?}");
    assert!(done.error.contains("tiny/test is not used: its 4 pictures have no labels"), "{done:?}");
    let json: serde_json::Value = serde_json::from_str(&place.succeed("eval run --device cpu --json")).unwrap();
    let row =
        |class: usize| json["confusion"][class].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>();
    assert_eq!(([row(0), row(1)], &json["split"]), ([1, 3], &"val".into()));
    let files = String::from_utf8(place.read("run/files.txt")).unwrap();
    let val = files.lines().filter_map(|line| line.strip_prefix("val\tval/images/")?.split('\t').next());
    let val: Vec<&str> = val.collect();
    assert_eq!(val, ["val_2.png", "val_0.png", "val_1.png", "val_3.png"], "by class, then by name");
    // Sorted into class folders, as scripts do that leave the list behind: the folders say what is where.
    for number in 0..4 {
        let class = if number == 2 { "n02" } else { "n01" };
        fs::create_dir_all(place.path("moved/val").join(class)).unwrap();
        let name = format!("val_{number}.png");
        fs::copy(place.path("tiny/val/images").join(&name), place.path("moved/val").join(class).join(&name)).unwrap();
        for class in ["n01", "n02"] {
            picture(&place.path(&format!("moved/train/{class}/images/{number}.png")), class == "n02", number);
        }
    }
    fs::write(place.path("moved/val/val_annotations.txt"), &list).unwrap();
    fs::create_dir(place.path("moved/val/images")).unwrap();
    let out = place.succeed("data --data moved show");
    assert!(out.lines().any(|line| line.split_whitespace().eq(["n01", "4", "3"])), "{out}");
    assert!(place.succeed("data --data moved verify").contains("12 of 12 images decode."));
    assert!(place.succeed("eval run --device cpu --data moved").contains("4 validation images of moved"));
    fs::write(place.path("tiny/val/val_annotations.txt"), list.replace("n02", "n03")).unwrap();
    place.fail("data --data tiny show", 1, &["val_annotations.txt, line 1: class n03 is not a training class"]);
    fs::remove_file(place.path("tiny/val/val_annotations.txt")).unwrap();
    place.fail(
        "data --data tiny show",
        1,
        &["tiny/val has 4 pictures, but no class folders", "hint: sort the pictures"],
    );
}

#[test]
fn eval_opens_only_what_it_scores() {
    let place = Place::new();
    place.classes("d/train", 4);
    place.classes("d/val", 2);
    place.succeed(&format!("{TRAIN} d --epochs 4 --lr 0.02 --out run"));
    let expected = place.succeed("eval run --device cpu --json");
    // Training pictures that cannot be read, or are not there.
    for number in 0..4 {
        fs::write(place.path(&format!("d/train/ant/{number}.png")), "broken").unwrap();
    }
    assert_eq!(place.succeed("eval run --device cpu --json"), expected);
    fs::rename(place.path("d/train"), place.path("elsewhere")).unwrap();
    assert_eq!(place.succeed("eval run --device cpu --json --data d"), expected);
    let out = place.succeed("eval run --device cpu --data d/val");
    assert!(out.contains("4 images of val"), "{out}");
    place.fail("eval run --device cpu --data d --split test", 1, &["d has no test pictures: it has val"]);

    // Classes by name: one of them, another order, an unknown one.
    fs::rename(place.path("d/val/bee"), place.path("bee")).unwrap();
    let one = place.run("eval run --device cpu --data d/val --json");
    assert!(one.error.contains("val has no images of 1 of the 2 classes: bee"), "{one:?}");
    let json: serde_json::Value = serde_json::from_str(&one.out).unwrap();
    assert_eq!(json["classes"], serde_json::json!(["ant", "bee"]));
    assert_eq!(json["confusion"][1], serde_json::json!([0, 0]));
    fs::rename(place.path("d/val/ant"), place.path("ant")).unwrap();
    fs::rename(place.path("bee"), place.path("d/val/bee")).unwrap();
    let json = place.succeed("eval run --device cpu --data d/val --json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["confusion"][0], serde_json::json!([0, 0]), "bees are not ants: {json}");
    fs::create_dir_all(place.path("d/val/cat")).unwrap();
    fs::copy(place.path("ant/0.png"), place.path("d/val/cat/0.png")).unwrap();
    let unknown = "val has 1 class that the network was not trained on: cat";
    place.fail("eval run --device cpu --data d/val", 1, &[unknown, "--data"]);

    // Broken ones among those that are scored.
    fs::remove_dir_all(place.path("d/val/cat")).unwrap();
    fs::rename(place.path("ant"), place.path("d/val/ant")).unwrap();
    fs::write(place.path("d/val/bee/1.png"), "").unwrap();
    place.fail("eval run --device cpu --data d", 1, &["cannot decode d/val/bee/1.png", "--skip-broken"]);
    let done = place.run("eval run --device cpu --data d --skip-broken");
    assert!(done.error.contains("left out 1 broken picture:\n  d/val/bee/1.png: "), "{done:?}");
    assert!(done.out.contains("3 validation images of d"), "{done:?}");

    fs::rename(place.path("d"), place.path("moved")).unwrap();
    place.fail(
        "eval run --device cpu",
        1,
        &["the run's data cannot be opened", "d", "hint: if they were moved", "--data"],
    );
    picture(&place.path("heap/1.png"), true, 0);
    place.fail("eval run --device cpu --data heap", 1, &["heap has 1 picture, but no class folders"]);
}

#[test]
fn names_that_only_look_alike_and_a_single_class() {
    let place = Place::new();
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    for (split, name) in [("train", composed), ("val", decomposed)] {
        picture(&place.path(&format!("d/{split}/{name}/1.png")), true, 1);
        picture(&place.path(&format!("d/{split}/tea/1.png")), true, 1);
    }
    place.fail("data --data d show", 1, &["Unicode normalisation", "(NFC)", "(NFD"]);
    picture(&place.path("one/train/x/1.png"), true, 1);
    picture(&place.path("one/train/x/2.png"), true, 1);
    picture(&place.path("one/val/x/1.png"), true, 1);
    let done = place.run(&format!("{TRAIN} one --epochs 1 --out one-run"));
    assert!(done.out.contains("1 class (") && !done.out.contains("1 classes"), "{done:?}");
    assert!(done.error.contains("nothing to learn"), "{done:?}");
}

#[test]
fn data_that_change_are_taken_when_asked() {
    let place = Place::new();
    place.classes("d", 6);
    place.succeed(&format!("{TRAIN} d --val 4 --epochs 1 --out run"));
    let list = |run: &str| String::from_utf8(place.read(&format!("{run}/files.txt"))).unwrap();
    let held = |list: &str| list.lines().filter(|line| line.starts_with("val")).map(String::from).collect::<Vec<_>>();
    let before = held(&list("run"));
    let trained =
        list("run").lines().find_map(|line| line.strip_prefix("train\t")?.split('\t').next().map(String::from));
    let trained = trained.unwrap();
    fs::remove_file(place.path("d").join(&trained)).unwrap();
    for number in 20..23 {
        picture(&place.path(&format!("d/bee/{number}.png")), true, number);
    }
    let said = format!("1 file removed ({trained}), 3 files added (bee/20.png, bee/21.png, bee/22.png)");
    place.fail("train --resume run --epochs 2", 1, &["is other data", &said, "--accept-data-changes"]);
    let done = place.run("train --resume run --epochs 2 --accept-data-changes");
    assert!(done.code == 0 && done.error.contains(&said), "{done:?}");
    assert!(done.out.contains("10 training and 4 validation"), "what was held out stays held out: {done:?}");
    assert_eq!(held(&list("run")), before);
    // It is the run's data now.
    let done = place.run("train --resume run --epochs 3");
    assert!(done.code == 0 && done.out.contains("10 training and 4 validation"), "{done:?}");
    assert_eq!(place.epochs("run"), [1, 2, 3]);
    assert!(place.succeed("eval run --device cpu").contains("4 validation images"));
    picture(&place.path("d/cat/1.png"), true, 1);
    let classes = ["it has other classes", "hint: "];
    place.fail("train --resume run --epochs 4 --accept-data-changes", 1, &classes);
    place.fail("train --data d --accept-data-changes", 2, &["--resume"]);
}

#[test]
fn broken_pictures_are_left_out_when_asked() {
    let place = Place::new();
    place.classes("d/train", 4);
    place.classes("d/val", 2);
    place.succeed(&format!("{TRAIN} d --epochs 1 --out earlier"));
    fs::write(place.path("d/train/ant/1.png"), "<html>").unwrap();
    fs::write(place.path("d/val/bee/0.png"), "").unwrap();
    let advice =
        ["cannot decode d/train/ant/1.png", "--skip-broken", "alexnet data --data d verify", "--accept-data-changes"];
    place.fail(&format!("{TRAIN} d --out run"), 1, &advice);
    let done = place.run(&format!("{TRAIN} d --skip-broken --out run"));
    assert!(done.code == 0 && done.error.contains("left out 2 broken pictures, listed in run/broken.txt"), "{done:?}");
    assert!(done.out.contains("8 training and 3 validation images"), "{done:?}");
    let list = || String::from_utf8(place.read("run/broken.txt")).unwrap();
    let first = list();
    assert!(first.lines().count() == 2 && first.starts_with("d/train/ant/1.png\t"), "{first}");
    // The command that it names works.
    assert!(done.out.contains("evaluate it with: alexnet eval run --skip-broken\n"), "{done:?}");
    assert!(!done.error.contains("none is scored"), "{done:?}");
    let eval = place.run("eval run --skip-broken --device cpu");
    assert!(eval.code == 0 && eval.out.contains("3 validation images"), "{eval:?}");
    // It keeps the setting; the list does not grow.
    place.succeed("train --resume run --epochs 3");
    assert_eq!(list(), first);
    // A run without it takes it on, once the files may have changed.
    let resume = "train --resume earlier --epochs 2";
    place.fail(resume, 1, &["2 files changed (train/ant/1.png, val/bee/0.png)", "--accept-data-changes"]);
    let done = place.run(&format!("{resume} --accept-data-changes"));
    assert!(done.code == 1 && done.error.contains("error: cannot decode d/train/ant/1.png"), "{done:?}");
    place.succeed(&format!("{resume} --accept-data-changes --skip-broken"));
    assert_eq!(place.epochs("earlier"), [1, 2]);
}

#[test]
fn classes_without_a_readable_picture_are_named() {
    let place = Place::new();
    place.classes("d/train", 4);
    place.classes("d/val", 2);
    for number in 0..2 {
        fs::write(place.path(&format!("d/val/bee/{number}.png")), "<html>").unwrap();
    }
    let done = place.run(&format!("{TRAIN} d --skip-broken --epochs 1 --out run"));
    let said = "every picture of 1 class is broken, and none is scored: bee";
    assert!(done.code == 0 && done.error.contains(&format!("validation images: {said}")), "{done:?}");
    assert!(place.notices("eval run --skip-broken --device cpu").contains(&format!("d: {said}")));
    for number in 0..2 {
        fs::write(place.path(&format!("d/val/ant/{number}.png")), "<html>").unwrap();
    }
    let nothing = ["every picture in d/val/", " is broken", "alexnet data --data d verify"];
    place.fail(&format!("{TRAIN} d --skip-broken --out other"), 1, &nothing);
    // Class folders without splits.
    place.classes("flat", 4);
    for number in 0..4 {
        fs::write(place.path(&format!("flat/ant/{number}.png")), "<html>").unwrap();
    }
    let done = place.run(&format!("{TRAIN} flat --val 2 --skip-broken --out other"));
    assert_eq!(done.code, 1, "{done:?}");
    for part in ["every picture in flat/ant is broken", "alexnet data --data flat verify"] {
        assert!(done.error.contains(part), "{part}: {done:?}");
    }
}

#[cfg(unix)]
#[test]
fn links_that_lead_up_in_a_circle_or_nowhere_are_passed_over() {
    use std::os::unix::fs::symlink;

    let place = Place::new();
    place.classes("d/real", 4);
    place.classes("d/val", 2);
    place.classes("elsewhere", 1);
    let links = [
        ("real", "d/train"),
        ("../..", "d/real/bee/up"),
        ("../../..", "d/real/ant/far"),
        (".", "d/real/ant/self"),
        ("../..", "d/real/cat"),
        ("loop", "d/real/loop"),
        ("nowhere", "d/val/ant/gone.png"),
        ("circle.png", "d/val/bee/circle.png"),
        ("../../../elsewhere/ant", "d/val/ant/more"),
    ];
    for (target, link) in links {
        symlink(target, place.path(link)).unwrap();
    }
    for flags in ["", "--skip-broken"] {
        let done = place.run(&format!("{TRAIN} d --epochs 1 --out run{flags} {flags}"));
        assert_eq!(done.code, 0, "{done:?}");
        // A link to a folder elsewhere is followed.
        assert!(done.out.contains("8 training and 5 validation images, 2 classes"), "{done:?}");
        assert!(done.error.contains("passed over 3 files: 3 without a target (symbolic link)"), "{done:?}");
        for link in ["train/cat", "train/bee/up", "train/ant/far"] {
            assert!(done.error.contains(&format!("d/{link} (link to a folder above it)")), "{link}: {done:?}");
        }
        assert!(!done.error.contains("self"), "{done:?}");
    }
}

#[test]
fn what_a_list_of_labels_does_not_name_is_counted() {
    let place = Place::new();
    for number in 0..6 {
        picture(&place.path(&format!("kaggle/train/{number}.png")), number % 2 == 1, number);
    }
    for number in 0..3 {
        picture(&place.path(&format!("kaggle/test/{number}.png")), true, number);
    }
    fs::write(place.path("kaggle/trainLabels.csv"), "id,label\n0,ant\n1,bee\n2,ant\n3,bee\n").unwrap();
    let done = place.run("data --data kaggle show");
    assert!(done.code == 0 && done.out.lines().any(|line| line.split_whitespace().eq(["bee", "2"])), "{done:?}");
    let said = [
        "kaggle/train: passed over 2 pictures that the list does not name",
        "kaggle/test is not used: the list does not label its 3 pictures",
    ];
    for line in said {
        assert!(done.error.contains(line), "{line}: {done:?}");
    }
    fs::write(place.path("kaggle/trainLabels.csv"), "id,label\n0,ant\n1,bee\n0,bee\n").unwrap();
    let twice = "picture 0.png has the label ant in line 2, and bee in line 4";
    place.fail("data --data kaggle show", 1, &[twice, "hint: correct trainLabels.csv"]);
}

#[test]
fn a_data_set_in_a_folder_of_its_own_is_pointed_at() {
    let place = Place::new();
    place.classes("outer/mydata/train", 2);
    place.classes("outer/mydata/val", 1);
    let inner =
        ["no data set in outer: it has mydata", "hint: the data set is in a folder below: give --data outer/mydata"];
    place.fail("data --data outer show", 1, &inner);
    place.fail(&format!("{TRAIN} outer --out run"), 1, &inner);
    fs::create_dir(place.path("far")).unwrap();
    fs::rename(place.path("outer"), place.path("far/outer")).unwrap();
    fs::write(place.path("far/readme.txt"), "x").unwrap();
    place.fail("data --data far show", 1, &["give --data far/outer/mydata"]);
    // A folder of a split is no data set.
    place.classes("held/val", 1);
    place.fail("data --data held show", 1, &["there is no folder train", "hint: expected train/CLASS/"]);
    // Two of them: none is meant more than the other.
    place.classes("far/outer/other/train", 2);
    place.fail("data --data far/outer show", 1, &["it has mydata, other", "hint: expected train/CLASS/"]);
}
