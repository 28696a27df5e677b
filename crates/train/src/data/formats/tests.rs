use std::io::Write;
use std::path::Path;

use super::*;
use crate::data::cifar::{self, IMAGE};
use crate::data::decode::Exif;

fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn opened(folder: &Path) -> Dataset {
    Dataset::open(folder.to_str().unwrap(), &Options::default()).unwrap()
}

fn refused(folder: &Path) -> String {
    Dataset::open(folder.to_str().unwrap(), &Options::default()).unwrap_err().to_string()
}

/// Image `n` in HWC.
fn pixels(n: usize) -> Vec<u8> {
    (0..IMAGE).map(|i| (i * 5 + n * 31) as u8).collect()
}

/// Image `n` in CHW.
fn planes(n: usize) -> Vec<u8> {
    let mut record = Vec::new();
    cifar::push_record(&mut record, 0, &pixels(n));
    record.split_off(1)
}

#[test]
fn cifar100_in_binary() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("cifar-100-binary");
    write(place.join("fine_label_names.txt"), "apple\naquarium_fish\nbaby\n");
    let records = |labels: &[u8]| {
        labels.iter().enumerate().flat_map(|(n, &l)| [vec![9, l], planes(n)].concat()).collect::<Vec<u8>>()
    };
    write(place.join("train.bin"), records(&[2, 0, 1]));
    write(place.join("test.bin"), records(&[1]));
    let dataset = opened(folder.path());
    assert_eq!((dataset.name.as_str(), dataset.classes.len()), ("cifar100", 3));
    assert_eq!((dataset.train.labels(), dataset.test.labels()), (&[2, 0, 1][..], &[1][..]));
    assert_eq!(dataset.train.pixels().unwrap()[IMAGE..2 * IMAGE], pixels(1));
    // The folder itself is the same data set, another image another one.
    assert_eq!(opened(&place).fingerprint, dataset.fingerprint);
    write(place.join("test.bin"), records(&[2]));
    assert_ne!(opened(&place).fingerprint, dataset.fingerprint);
    write(place.join("test.bin"), records(&[3]));
    assert!(refused(&place).contains("label 3, expected at most 2"));
    write(place.join("test.bin"), &records(&[1])[1..]);
    assert!(refused(&place).contains("truncated"));
    std::fs::remove_file(place.join("test.bin")).unwrap();
    assert!(refused(&place).ends_with("test.bin is missing"));
}

/// An idx file.
fn idx(sides: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sides.len() as u8];
    sides.iter().for_each(|side| file.extend(side.to_be_bytes()));
    file.extend(bytes);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn images(count: usize) -> Vec<u8> {
    idx(&[count as u32, 28, 28], &(0..count * 784).map(|i| (i * 7) as u8).collect::<Vec<u8>>())
}

#[test]
fn mnist_and_those_like_it() {
    let folder = tempfile::tempdir().unwrap();
    for (place, suffix, name, class) in [
        ("a/MNIST/raw", "", "mnist", "3"),
        ("b", ".gz", "mnist", "3"),
        ("c/FashionMNIST/raw", ".gz", "fashion-mnist", "Dress"),
        ("d/KMNIST/raw", "", "kmnist", "tsu"),
    ] {
        let packed = |bytes: Vec<u8>| if suffix.is_empty() { bytes } else { gzip(&bytes) };
        let place = folder.path().join(place);
        for (split, count) in [("train", 6), ("t10k", 3)] {
            let labels: Vec<u8> = (0..count as u8).map(|n| (n * 3) % 10).collect();
            write(place.join(format!("{split}-images-idx3-ubyte{suffix}")), packed(images(count)));
            write(place.join(format!("{split}-labels-idx1-ubyte{suffix}")), packed(idx(&[count as u32], &labels)));
        }
        let root = if name == "mnist" && suffix == ".gz" { place.clone() } else { place.join("../..") };
        let dataset = opened(&root);
        assert_eq!((dataset.name.as_str(), dataset.classes[3].as_str()), (name, class));
        assert_eq!(dataset.classes.len(), 10);
        assert_eq!((dataset.train.labels(), dataset.test.len()), (&[0, 3, 6, 9, 2, 5][..], 3));
        assert_eq!(dataset.train.image_size(), Some(28));
        let second = &dataset.train.pixels().unwrap()[784 * 3..];
        // 784·7 and 785·7, of each the last byte.
        assert_eq!(second[..6], [112, 112, 112, 119, 119, 119]);
    }
}

#[test]
fn bad_idx_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let whole = || {
        for split in ["train", "t10k"] {
            write(path(&format!("{split}-images-idx3-ubyte")), images(2));
            write(path(&format!("{split}-labels-idx1-ubyte")), idx(&[2], &[1, 2]));
        }
    };
    whole();
    assert_eq!(opened(folder.path()).classes.len(), 10);
    for (name, bytes, words) in [
        ("train-images-idx3-ubyte", images(2)[..900].to_vec(), "too many for a file of 900 bytes"),
        ("train-images-idx3-ubyte", idx(&[u32::MAX, 1 << 20, 28], &[0; 40]), "too many for a file"),
        ("train-images-idx3-ubyte", idx(&[2, 28, 20], &[0; 1120]), "expected squares"),
        ("train-images-idx3-ubyte", vec![0, 0, 8], "cut short"),
        ("train-images-idx3-ubyte", vec![1; 99], "no idx file"),
        ("t10k-images-idx3-ubyte", images(3), "2 labels for 3 images"),
        ("t10k-images-idx3-ubyte", [images(2), vec![0]].concat(), "and has more"),
        ("t10k-labels-idx1-ubyte", idx(&[2, 1], &[1, 2]), "dimensions"),
    ] {
        whole();
        write(path(name), bytes);
        let error = refused(folder.path());
        assert!(error.contains(words) && error.contains(name.split('-').next().unwrap()), "{error}");
    }
    whole();
    std::fs::remove_file(path("t10k-labels-idx1-ubyte")).unwrap();
    assert!(refused(folder.path()).contains("t10k-labels-idx1-ubyte is missing"));
    // A cut gzip file, and one that unpacks to more than it may.
    std::fs::remove_file(path("train-images-idx3-ubyte")).unwrap();
    let packed = gzip(&images(2));
    write(path("train-images-idx3-ubyte.gz"), &packed[..packed.len() / 2]);
    whole();
    std::fs::remove_file(path("train-images-idx3-ubyte")).unwrap();
    assert!(refused(folder.path()).contains("cut short"));
}

#[test]
fn stl10_in_binary() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("stl10_binary");
    // Column order: the value is the column's number, then the row's in the third plane.
    let image: Vec<u8> =
        (0..3 * 96 * 96).map(|i| if i < 2 * 96 * 96 { (i / 96 % 96) as u8 } else { (i % 96) as u8 }).collect();
    for split in ["train", "test"] {
        write(place.join(format!("{split}_X.bin")), [&image[..], &image].concat());
        write(place.join(format!("{split}_y.bin")), [10, 1]);
    }
    let dataset = opened(folder.path());
    assert_eq!((dataset.name.as_str(), dataset.train.labels()), ("stl10", &[9, 0][..]));
    assert_eq!(dataset.classes[9], "truck");
    let pixels = dataset.train.pixels().unwrap();
    assert_eq!(pixels[(5 * 96 + 17) * 3..][..3], [17, 17, 5]);
    write(place.join("test_y.bin"), [0, 1]);
    assert!(refused(folder.path()).contains("label 0"));
    write(place.join("test_y.bin"), [1, 2, 3]);
    assert!(refused(folder.path()).contains("test_X.bin has 55296 bytes"));
}

#[test]
fn a_list_of_labels_beside_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for n in 1..=4 {
        write(path(&format!("train/{n}.png")), []);
        image::RgbImage::from_pixel(5, 5, image::Rgb([n, 0, 0])).save(path(&format!("train/{n}.png"))).unwrap();
    }
    write(path("trainLabels.csv"), "id,label\r\n1,frog\r\n2,cat\r\n3,\"frog\"\r\n4,dog\r\n");
    let options = Options { exif: Exif::Ignore, ..Options::default() };
    let dataset = super::open(folder.path(), &options).unwrap().unwrap();
    assert_eq!(dataset.classes, ["cat", "dog", "frog"]);
    assert_eq!((dataset.train.labels(), dataset.test.len()), (&[2, 0, 2, 1][..], 0));
    assert!(dataset.train.file(2).unwrap().ends_with("train/3.png"));
    assert!(dataset.source.contains("training"), "{}", dataset.source);
    let mut scratch = Vec::new();
    assert_eq!(dataset.train.image(3, 5, &mut scratch).unwrap()[..3], [4, 0, 0]);
    // Other columns, whole names, another list.
    std::fs::remove_file(path("trainLabels.csv")).unwrap();
    write(path("labels.csv"), "breed,weight,file\nx,3,1.png\n\"a, b\",4,2.png\n");
    let other = super::open(folder.path(), &options).unwrap().unwrap();
    assert_eq!((other.classes, other.train.labels()), (vec!["a, b".to_owned(), "x".into()], &[1, 0][..]));
    write(path("labels.csv"), "a,b\n1,x\n2,y\n");
    assert_eq!(super::open(folder.path(), &options).unwrap().unwrap().classes, ["x", "y"]);
    for (rows, words) in [
        ("id,label\n1,a\n9,b\n", "9.png is missing"),
        ("id,label\n1,a,b\n", "line 2 has 3 columns"),
        ("id,label\n1,a\n../1,b\n", "line 3 has the name"),
        ("id,label\n", "no rows"),
        ("id,label\n1,a\n\n2,b\n1,b\n", "picture 1.png has the label a in line 2, and b in line 5"),
    ] {
        write(path("labels.csv"), rows);
        let error = super::open(folder.path(), &options).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    // A first line that names a picture is no header, whatever its class is called; a picture twice is one label.
    for (first, class) in [("1,x", "x"), ("\u{feff}1.png,label", "label")] {
        let rest = if first.contains("png") { "2.png,y\n2.png,y\n" } else { "2,y\n2,y\n" };
        write(path("labels.csv"), format!("{first}\n{rest}"));
        let headless = super::open(folder.path(), &options).unwrap().unwrap();
        assert!(headless.classes.contains(&class.to_owned()), "{:?}", headless.classes);
        assert_eq!((headless.train.len(), headless.classes.len()), (3, 2));
        assert!(headless.train.file(0).unwrap().ends_with("train/1.png"));
    }
    // Beside class folders the list is not needed.
    write(path("labels.csv"), "id,label\n77,a\n");
    write(path("train/cat/1.png"), "");
    assert!(super::open(folder.path(), &options).unwrap().is_none());
}

/// Pickles of protocol 2 as Python 2 wrote them (the official files), or as Python 3 does.
struct Pickled {
    bytes: Vec<u8>,
    python2: bool,
}

impl Pickled {
    fn new(python2: bool) -> Self {
        Self { bytes: b"\x80\x02}(".to_vec(), python2 }
    }

    fn text(&mut self, text: &str) -> &mut Self {
        if self.python2 {
            self.bytes.extend([b"U", &[text.len() as u8][..], text.as_bytes()].concat());
        } else {
            self.bytes.extend([b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat());
        }
        self
    }

    fn numbers(&mut self, key: &str, numbers: &[u8]) -> &mut Self {
        self.text(key).bytes.extend(b"](");
        numbers.iter().for_each(|&number| self.bytes.extend([b'K', number]));
        self.bytes.push(b'e');
        self
    }

    fn texts(&mut self, key: &str, texts: &[&str]) -> &mut Self {
        self.text(key).bytes.extend(b"](");
        for text in texts {
            self.text(text);
        }
        self.bytes.push(b'e');
        self
    }

    /// A NumPy array of bytes (rows, 3072).
    fn data(&mut self, rows: usize, bytes: &[u8]) -> &mut Self {
        self.text("data");
        // Its module was renamed in NumPy 2.
        let module: &[u8] = if self.python2 { b"cnumpy.core.multiarray\n" } else { b"cnumpy._core.multiarray\n" };
        self.bytes.extend([module, b"_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01M"].concat());
        self.bytes.extend((rows as u16).to_le_bytes());
        self.bytes.extend(b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89");
        if self.python2 {
            self.bytes.extend([b"T", &(bytes.len() as u32).to_le_bytes()[..], bytes].concat());
        } else {
            // Protocol 2 has no bytes: text in Latin-1, encoded when it is read.
            let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
            self.bytes.extend(b"c_codecs\nencode\nX");
            self.bytes
                .extend([&(text.len() as u32).to_le_bytes()[..], text.as_bytes(), b"X\x06\0\0\0latin1\x86R"].concat());
        }
        self.bytes.extend(b"tb");
        self
    }

    fn file(&mut self) -> Vec<u8> {
        [&self.bytes[..], b"u."].concat()
    }
}

#[test]
fn cifar10_and_100_in_python() {
    for python2 in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("cifar-10-batches-py");
        let batch = |labels: &[u8], first: usize| {
            let data: Vec<u8> = (0..labels.len()).flat_map(|n| planes(first + n)).collect();
            let mut file = Pickled::new(python2);
            file.text("batch_label").text("training batch 1 of 5").data(labels.len(), &data);
            file.numbers("labels", labels).texts("filenames", &["a.png", "b.png"]).file()
        };
        for n in 0..5 {
            write(place.join(format!("data_batch_{}", n + 1)), batch(&[n as u8, 9 - n as u8], 2 * n));
        }
        write(place.join("test_batch"), batch(&[7], 40));
        let dataset = opened(folder.path());
        assert_eq!((dataset.name.as_str(), dataset.classes[0].as_str()), ("cifar10", "airplane"));
        assert_eq!(dataset.train.labels(), [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]);
        assert_eq!(dataset.test.labels(), [7]);
        assert_eq!(dataset.train.pixels().unwrap()[3 * IMAGE..4 * IMAGE], pixels(3), "python 2: {python2}");
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        write(place.join("batches.meta"), Pickled::new(python2).texts("label_names", &names).file());
        assert_eq!(opened(&place).classes, names);
        for (file, words) in [
            (batch(&[10], 1), "label 10, expected at most 9"),
            (batch(&[1], 1)[..900].to_vec(), "malformed"),
            (Pickled::new(python2).numbers("labels", &[1]).file(), "no array `data`"),
            (Pickled::new(python2).data(1, &planes(1)).file(), "no list `labels`"),
            (Pickled::new(python2).data(1, &planes(1)).numbers("labels", &[1, 2]).file(), "expected bytes [2, 3072]"),
            (b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.".to_vec(), "os.system"),
        ] {
            write(place.join("data_batch_4"), file);
            let error = refused(folder.path());
            assert!(error.contains(words) && error.contains("data_batch_4"), "{error}");
        }
        std::fs::remove_file(place.join("data_batch_4")).unwrap();
        assert!(refused(folder.path()).ends_with("data_batch_4 is missing"));

        let place = folder.path().join("cifar-100-python");
        std::fs::remove_dir_all(folder.path().join("cifar-10-batches-py")).unwrap();
        let file = |labels: &[u8]| {
            let data: Vec<u8> = (0..labels.len()).flat_map(planes).collect();
            let mut file = Pickled::new(python2);
            file.numbers("fine_labels", labels).numbers("coarse_labels", &[0]).data(labels.len(), &data).file()
        };
        write(place.join("meta"), Pickled::new(python2).texts("fine_label_names", &["apple", "fish", "baby"]).file());
        write(place.join("train"), file(&[2, 1]));
        write(place.join("test"), file(&[0]));
        let dataset = opened(folder.path());
        assert_eq!((dataset.name.as_str(), dataset.classes.len()), ("cifar100", 3));
        assert_eq!((dataset.train.labels(), dataset.test.labels()), (&[2, 1][..], &[0][..]));
        assert_eq!(dataset.train.pixels().unwrap()[IMAGE..], pixels(1));
    }
}
