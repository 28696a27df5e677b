//! `alexnet serve`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::hint;
use super::model::{DeviceArgs, ExifArgs, LoadedCheckpoint};
use crate::data::decode::Exif;
use crate::print::notice;
use crate::run::{Error, Stop};
use crate::serve::access::{Access, AllowedHost, AllowedOrigin};
use crate::serve::{self, Examples, Limits, Model};

/// Serve a web page and a JSON API that classify pictures
///
/// The page takes pictures from the disk, the clipboard or a phone's camera and shows class probabilities, first-layer
/// filters and the activations of each convolution. POST /predict takes a picture as the body, a form with files
/// (curl -F file=@photo.jpg) or JSON with base64, and returns {"predictions": [{"class", "index", "probability"}],
/// "width", "height", "milliseconds"}; of several pictures {"results": [...]}. ?top=N sets the number of classes (5 by
/// default), ?threshold=T names pictures below that probability unknown, ?layers=1 adds the activations. /openapi.json
/// describes the API, /healthz answers ok. Ctrl-C finishes the requests in progress, then exits.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder (its best.safetensors) or checkpoint file
    #[arg(value_name = "RUN_OR_CHECKPOINT", required_unless_present = "ping")]
    model: Option<PathBuf>,
    /// Address or name to listen on; 0.0.0.0: all
    ///
    /// Anything but this machine's own address (127.0.0.1, ::1, localhost) lets others in, for containers and local
    /// networks. There is no login and no encryption: put a proxy in front that has both.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    host: String,
    /// Port; 0: any free one
    #[arg(long, value_name = "N", default_value_t = 8017)]
    port: u16,
    /// Accept requests that name this host; repeatable
    ///
    /// Browsers send the name in the address bar. localhost and IP addresses are always accepted, other names only from
    /// here: a foreign page could otherwise reach the server through a name of its own (DNS rebinding). * accepts every
    /// name.
    #[arg(long, value_name = "NAME[:PORT]")]
    allow_host: Vec<AllowedHost>,
    /// Let pages of this origin use the server; repeatable
    ///
    /// Such as https://app.example or http://localhost:3000. Sends the headers of CORS. * lets in every page.
    #[arg(long, value_name = "URL")]
    allow_origin: Vec<AllowedOrigin>,
    /// Largest request in MiB
    #[arg(long, value_name = "MIB", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=512))]
    max_size: u16,
    /// Most pictures per request
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_pictures: u16,
    /// Pictures per forward pass; results do not depend on it
    ///
    /// At most: those of all requests that wait pass through the network together, which reads its weights once. A single
    /// request waits for no others.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch_size: u16,
    /// Time limit per request in seconds
    ///
    /// For the upload and for the inference, each.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=3600))]
    timeout: u16,
    /// Maximum requests that wait for their answer
    ///
    /// Counted from the end of the upload. Further ones are refused with status 503 and Retry-After.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_requests: u16,
    #[command(flatten)]
    exif: ExifArgs,
    /// Folder of pictures that visitors of the page can try
    ///
    /// Up to 12 of them, spread over the folder and shrunk to 512 pixels. Without it a network with CIFAR-10's classes offers one of each.
    #[arg(long, value_name = "DIR")]
    examples: Option<PathBuf>,
    /// Ask the server at --host and --port whether it answers, and exit
    ///
    /// The exit code is 0 if it does and 1 otherwise: a health check for containers without another program.
    #[arg(long, conflicts_with = "model")]
    ping: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Serves.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // An address of IPv6 as URLs have it.
    let host = args.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&args.host);
    if host.parse::<IpAddr>().is_err() && (host.is_empty() || host.contains([':', '/'])) {
        return Err(hint::usage(
            format!("--host {host} is neither an address nor a name"),
            "give an address such as 0.0.0.0; the port is given with --port",
        ));
    }
    let Some(model) = args.model.as_ref().filter(|_| !args.ping) else { return ping(host, args) };
    let loaded = LoadedCheckpoint::new(model)?;
    let exif = args.exif.of(loaded.metadata());
    let examples = match &args.examples {
        Some(folder) => examples(folder, exif)?,
        None => Examples::of_classes(&loaded.metadata().classes)?,
    };
    let limits = Limits {
        body: usize::from(args.max_size) << 20,
        pictures: args.max_pictures.into(),
        time: Duration::from_secs(args.timeout.into()),
        requests: args.max_requests.into(),
        connections: Limits::default().connections.max(2 * usize::from(args.max_requests)),
    };
    let batch = usize::from(args.batch_size);
    let mut classifier = loaded.classifier(&args.device, batch)?;
    classifier.exif = exif;
    let model = Model::new(classifier, batch, loaded.metadata(), loaded.filters()?);
    drop(loaded);
    let refused = || Error::io("serve on", Path::new(host));
    let stop = Stop::on_signals(true).map_err(Error::io("handle", Path::new("Ctrl-C")))?;
    // Threads that decode, and at least two, so that one large picture leaves room for small ones.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(threads).build();
    let runtime = runtime.map_err(refused())?;
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((host, args.port)).await;
        let listener = listener.map_err(|source| Error::Port { host: host.into(), port: args.port, source })?;
        let address = listener.local_addr().map_err(refused())?;
        let mut access = Access { hosts: args.allow_host.clone(), origins: args.allow_origin.clone() };
        // The name under which it was asked to listen.
        access.hosts.extend(host.parse::<AllowedHost>().ok());
        warn(address, &access);
        // The program that started the server may read the address from here.
        let _ = writeln!(std::io::stdout().lock(), "serving http://{address} (Ctrl-C ends it)");
        let stopped = async {
            while !stop.requested() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        serve::serve(listener, model, examples, limits, access, stopped).await.map_err(refused())
    });
    // Do not wait for an inference beyond the time limit.
    runtime.shutdown_timeout(limits.time);
    served?;
    notice("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The pictures of `--examples`.
fn examples(folder: &Path, exif: Exif) -> anyhow::Result<Examples> {
    if !folder.is_dir() {
        return Err(hint::failure(
            format!("no such folder: {}", folder.display()),
            "give --examples a folder with pictures",
        ));
    }
    let (examples, passed) = Examples::from_folder(folder, exif)?;
    if examples.is_empty() {
        let others = if passed.is_empty() { String::new() } else { format!(", but {passed}") };
        let message = format!("{} has no pictures{others}", folder.display());
        return Err(hint::failure(message, "give --examples a folder with pictures"));
    }
    if !passed.is_empty() {
        notice(&format!("passed over in {}: {passed}", folder.display()));
    }
    Ok(examples)
}

/// `--ping`.
fn ping(host: &str, args: &Args) -> anyhow::Result<ExitCode> {
    let time = Duration::from_secs(args.timeout.into());
    let ask = || {
        let mut stream = TcpStream::connect((host, args.port))?;
        stream.set_read_timeout(Some(time))?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let hint = "start it with `alexnet serve RUN`, or give its --host and --port";
    match ask() {
        Ok(answer) if answer.ends_with(" 200") => Ok(ExitCode::SUCCESS),
        Ok(answer) => Err(hint::failure(format!("{host}, port {}: {answer}", args.port), hint)),
        Err(error) => Err(hint::failure(format!("no server at {host}, port {}: {error}", args.port), hint)),
    }
}

/// Says who can reach the server, if that is more than this machine.
fn warn(address: SocketAddr, access: &Access) {
    let port = address.port();
    if !address.ip().to_canonical().is_loopback() {
        notice(
            "warning: others can reach this server: it has no login and no encryption; beyond a network that you trust \
             put a proxy with both in front of it",
        );
    }
    if address.ip().is_unspecified() {
        let own = own_address(address.is_ipv6())
            .map_or(String::new(), |ip| format!(", or http://{}", SocketAddr::new(ip, port)));
        notice(&format!("open http://localhost:{port} here{own} from elsewhere; other names need --allow-host NAME"));
    }
    if access.hosts.contains(&AllowedHost::Any) {
        notice("warning: --allow-host '*' lets web pages reach this server through names of their own (DNS rebinding)");
    }
    if access.origins.contains(&AllowedOrigin::Any) {
        notice("warning: --allow-origin '*' lets every web page that a visitor opens use this server");
    }
    if access.origins.contains(&AllowedOrigin::Null) {
        notice("warning: --allow-origin null lets in local files, and every web page by a sandboxed frame");
    }
}

/// This machine's address in its network. Connecting a UDP socket chooses the route and sends nothing.
fn own_address(is_ipv6: bool) -> Option<IpAddr> {
    let v4 = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        // An address for documentation (RFC 5737): any that is not local.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let v6 = || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    v4().or_else(|| is_ipv6.then(v6)?).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}
