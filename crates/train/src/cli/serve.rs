//! `alexnet serve`.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::model::{DeviceArgs, LoadedCheckpoint};
use crate::data::decode::Exif;
use crate::print::notice;
use crate::run::{Error, Stop};
use crate::serve::{self, Limits, Model};

/// Serve a web page and a JSON API that classify pictures
///
/// The page takes a dropped picture and shows class probabilities, first-layer filters and the activations of each
/// convolution. POST /predict with a picture as the body returns {"predictions": [{"class", "index",
/// "probability"}], "width", "height", "milliseconds"}; ?top=N sets the number of classes (5 by default), ?layers=1
/// adds the activations. Ctrl-C finishes the requests in progress, then exits.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folder (its best.safetensors) or checkpoint file
    #[arg(value_name = "RUN_OR_CHECKPOINT")]
    model: PathBuf,
    /// Port on 127.0.0.1; 0: any free one
    #[arg(long, value_name = "N", default_value_t = 8017)]
    port: u16,
    /// Largest picture in MiB
    #[arg(long, value_name = "MIB", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=512))]
    max_size: u16,
    /// Time limit per request in seconds
    ///
    /// For the upload and for the inference, each.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=3600))]
    timeout: u16,
    /// Maximum requests in progress or queued
    ///
    /// Further ones are refused with status 503.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_requests: u16,
    /// apply or ignore the EXIF orientation of pictures [default: the run's]
    ///
    /// Phones store how a picture is to be turned beside its pixels. apply turns it upright, as viewers show it; ignore
    /// takes the pixels as they are stored.
    #[arg(long, value_name = "MODE")]
    exif: Option<Exif>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Serves.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let loaded = LoadedCheckpoint::new(&args.model)?;
    let mut classifier = loaded.classifier(&args.device, 1)?;
    classifier.exif = args.exif.unwrap_or(classifier.exif);
    let filters = loaded.filters()?;
    let model = Model::new(classifier, loaded.path.display().to_string(), filters);
    drop(loaded);
    let limits = Limits {
        body: usize::from(args.max_size) << 20,
        time: Duration::from_secs(args.timeout.into()),
        requests: args.max_requests.into(),
        ..Limits::default()
    };
    let refused = || Error::io("serve on", std::path::Path::new("127.0.0.1"));
    let stop = Stop::on_signals().map_err(Error::io("handle", std::path::Path::new("Ctrl-C")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused())?;
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), args.port)).await;
        let listener = listener.map_err(|source| Error::Port { port: args.port, source })?;
        let address = listener.local_addr().map_err(refused())?;
        // The program that started the server may read the address from here.
        let _ = writeln!(std::io::stdout().lock(), "serving http://{address} (Ctrl-C ends it)");
        let stopped = async {
            while !stop.requested() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        serve::serve(listener, model, limits, stopped).await.map_err(refused())
    });
    // Do not wait for an inference beyond the time limit.
    runtime.shutdown_timeout(limits.time);
    served?;
    notice("stopped");
    Ok(ExitCode::SUCCESS)
}
