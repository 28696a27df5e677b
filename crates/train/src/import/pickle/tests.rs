use super::*;

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

#[test]
fn what_is_beside_the_weights_is_opaque() {
    // {'a': numpy scalar, 'b': Namespace(lr=1), 'c': {1, 2}, 'd': defaultdict(list), 'e': torch.Size((2,)), 'f': 1}
    let pickle = [
        &b"\x80\x02}("[..],
        &text("a"),
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f8K\x00K\x01tRU\x08\0\0\0\0\0\0\xf0?tR",
        &text("b"),
        b"cargparse\nNamespace\n)\x81}U\x02lrK\x01sb",
        &text("c"),
        b"c__builtin__\nset\n](K\x01K\x02e\x85R",
        &text("d"),
        b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R",
        &text("e"),
        b"ctorch\nSize\n(K\x02t\x85R",
        &text("f"),
        b"K\x01u.",
    ]
    .concat();
    let pickle = read(&pickle).unwrap();
    let globals = ["a", "b", "c", "e"].map(|key| match pickle.get(&pickle.root, key) {
        Some(Value::Object(object)) => pickle.objects[*object].global.to_string(),
        other => panic!("{key}: {other:?}"),
    });
    let names = ["numpy.core.multiarray.scalar", "argparse.Namespace", "__builtin__.set", "torch.Size"];
    assert_eq!(globals, names);
    assert!(matches!(pickle.get(&pickle.root, "d"), Some(Value::Dict(_))));
    assert!(matches!(pickle.get(&pickle.root, "f"), Some(Value::Int(1))));
}

#[test]
fn a_batch_of_cifar_10s_python_version() {
    // As cPickle of Python 2 wrote it: strings that are bytes.
    let pickle = [
        &b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03(cnumpy\nndarray\nq\x04K\x00\x85U\x01btRq\x05"[..],
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
        b"\x89U\x06\x01\x02\x03\xfe\xff\x80tbU\x06labels](K\x07K\x09eU\x09filenames](U\x05a.png",
        b"U\x05\xe9.pngeu.",
    ]
    .concat();
    let pickle = read(&pickle).unwrap();
    let (array, shape) = pickle.array(pickle.get(&pickle.root, "data").unwrap()).unwrap();
    assert_eq!((array.dtype, array.bytes, shape), ("u1", &[1, 2, 3, 254, 255, 128][..], vec![2, 3]));
    let labels = pickle.list(pickle.get(&pickle.root, "labels").unwrap()).unwrap();
    assert!(matches!(labels, [Value::Int(7), Value::Int(9)]));
    let names = pickle.list(pickle.get(&pickle.root, "filenames").unwrap()).unwrap();
    assert_eq!(names.iter().map(|name| name.text().unwrap()).collect::<Vec<_>>(), ["a.png", "é.png"]);
}

#[test]
fn every_protocol_spells_the_same_values() {
    // {'a': [1, 2], 'b': True, 'c': b'x\n'} by protocols 0, 2, 4.
    for bytes in [
        &b"(dp0\nVa\np1\n(lp2\nI1\naI2\nasVb\np3\nI01\nsVc\np4\nS'x\\n'\np5\ns."[..],
        b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01K\x02eX\x01\x00\x00\x00bq\x03\x88X\x01\x00\x00\x00cU\x02x\nu.",
        b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01K\x02e\x8c\x01b\x94\x88\x8c\x01c\x94C\x02x\n\x94u.",
    ] {
        let pickle = read(bytes).unwrap();
        let list = pickle.list(pickle.get(&pickle.root, "a").unwrap()).unwrap();
        assert!(matches!(list, [Value::Int(1), Value::Int(2)]), "{list:?}");
        assert!(matches!(pickle.get(&pickle.root, "b"), Some(Value::Bool(true))));
        assert!(matches!(pickle.get(&pickle.root, "c"), Some(Value::Bytes(bytes)) if **bytes == *b"x\n"));
    }
}

#[test]
fn a_part_of_a_storage_stays_a_part() {
    let storage =
        |view: &[u8]| [b"\x80\x02(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x08", view, b"tQ."].concat();
    let Value::Storage(part) = read(&storage(b"(U\x012K\x02K\x03t")).unwrap().root else { panic!() };
    assert_eq!((part.len, part.part.clone()), (8, 2..5));
    let Value::Storage(whole) = read(&storage(b"N")).unwrap().root else { panic!() };
    assert_eq!(whole.part, 0..8);
    assert!(matches!(read(&storage(b"(U\x012K\x06K\x03t")), Err(Error::Malformed { .. })));
}

#[test]
fn what_could_run_is_refused_however_it_is_called() {
    for bytes in [
        &b"\x80\x02cos\nsystem\nU\x02ls\x85R."[..],
        b"(S'ls'\nios\nsystem\n.",
        b"(cos\nsystem\nS'ls'\no.",
        b"\x80\x02cos\nsystem\nU\x02ls\x85\x81.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
        // As an argument of a harmless class, and never called at all.
        b"\x80\x02cfunctools\npartial\ncos\nsystem\n\x85R.",
        b"\x80\x02}U\x01acos\nsystem\ns.",
    ] {
        assert_eq!(read(bytes).unwrap_err(), Error::Global("os.system".into()));
    }
}
