//! Files that were written are read again, and damaged ones are refused without a panic.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

type Content = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

const PAGE: usize = 4096;
/// Damaged files that are read per run, each damaged in another way.
const DAMAGED_FILES: u64 = 3000;

fn write(path: &Path, content: &Content) {
    let mut writer = Writer::new(File::create(path).unwrap()).unwrap();
    for (name, keys) in content {
        let mut tree = Tree::default();
        for (key, value) in keys {
            tree.put(&mut writer, key, value).unwrap();
        }
        writer.add(name, tree).unwrap();
    }
    writer.finish().unwrap();
}

fn read(path: &Path) -> Result<Content, ReadError> {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let reader = Reader::open(file, length)?;
    let mut content = Content::new();
    for (name, bucket) in reader.buckets()? {
        let mut keys = BTreeMap::new();
        reader.visit(&bucket, &mut |key, value| {
            keys.insert(key.to_vec(), value.to_vec());
            Ok::<(), ReadError>(())
        })?;
        content.insert(String::from_utf8_lossy(&name).into_owned(), keys);
    }
    Ok(content)
}

fn numbered(count: usize, value_len: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    (0..count).map(|number| (format!("key{number:08}").into_bytes(), vec![b'v'; value_len])).collect()
}

/// Buckets of every shape: none, one page, several levels, values and keys of many pages.
fn shapes() -> Content {
    let long_keys = (0..40_u8).map(|number| (vec![number; 5000], vec![number])).collect();
    Content::from([
        ("empty".to_owned(), BTreeMap::new()),
        ("flat".to_owned(), numbered(3, 10)),
        ("huge".to_owned(), numbered(3, 100_000)),
        ("long keys".to_owned(), long_keys),
        ("one".to_owned(), numbered(1, 0)),
        ("tall".to_owned(), numbered(30_000, 60)),
    ])
}

#[test]
fn what_was_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for content in [Content::new(), shapes()] {
        write(&path, &content);
        assert!(read(&path).unwrap() == content);
    }
}

#[test]
fn any_content_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for seed in 0..200 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut content = Content::new();
        for bucket in 0..random.random_range(0..4) {
            let mut keys = BTreeMap::new();
            for _ in 0..random.random_range(0..400) {
                let key: Vec<u8> = (0..random.random_range(1..40)).map(|_| random.random()).collect();
                let long = random.random_range(0..20) == 0;
                let length = random.random_range(0..if long { 9000 } else { 50 });
                keys.insert(key, vec![random.random(); length]);
            }
            content.insert(format!("bucket{bucket}"), keys);
        }
        write(&path, &content);
        assert!(read(&path).unwrap() == content, "seed {seed}");
    }
}

/// bbolt panics when it later empties the other child of a branch that has two.
#[test]
fn no_branch_has_a_single_child() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for count in (1..600).chain([30_000]) {
        write(&path, &Content::from([("b".to_owned(), numbered(count, 900))]));
        let bytes = fs::read(&path).unwrap();
        for page in bytes.chunks(PAGE) {
            let header = format::Header::decode(page).unwrap();
            if header.flags == format::Kind::Branch.flag() {
                assert!(header.count >= 2, "{count} keys");
            }
        }
    }
}

#[test]
fn keys_that_bbolt_cannot_hold_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(File::create(directory.path().join("file")).unwrap()).unwrap();
    let mut tree = Tree::default();
    assert!(matches!(
        tree.put(&mut writer, &[0; 32_769], b""),
        Err(WriteError::KeyTooLong { bytes: 32_769 })
    ));
}

#[test]
fn a_cut_file_is_refused_wherever_it_was_cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write(&path, &Content::from([("b".to_owned(), numbered(2000, 50))]));
    let whole = fs::read(&path).unwrap();
    for page in 0..whole.len() / PAGE {
        for length in [page * PAGE, page * PAGE + 1, page * PAGE + PAGE / 2, (page + 1) * PAGE - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}

#[test]
fn one_damaged_meta_page_is_no_loss_and_two_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let content = Content::from([("b".to_owned(), numbered(10, 10))]);
    write(&path, &content);
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(read(&path).unwrap() == content, "the second page counts");
    bytes[PAGE + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(read(&path), Err(ReadError::NoMeta)));
}

#[test]
fn a_damaged_page_is_named_with_its_offset() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write(&path, &Content::from([("b".to_owned(), numbered(2000, 50))]));
    let whole = fs::read(&path).unwrap();
    for page in 3..whole.len() / PAGE {
        // Its number, its kind, and where its first key is.
        for at in [0, 8, format::HEADER_BYTES + 5] {
            let mut bytes = whole.clone();
            bytes[page * PAGE + at] ^= 0x55;
            fs::write(&path, &bytes).unwrap();
            let error = read(&path).unwrap_err().to_string();
            let named = format!("page {page} at offset {} is damaged", page * PAGE);
            assert!(error.contains(&named), "page {page}, byte {at}: {error}");
        }
    }
}

#[test]
fn keys_that_do_not_ascend_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write(&path, &Content::from([("b".to_owned(), numbered(2000, 50))]));
    let whole = fs::read(&path).unwrap();
    let (key, lower) = (b"key00000003", b"key00000001");
    let at = whole.windows(key.len()).position(|bytes| bytes == key).unwrap();
    let mut bytes = whole.clone();
    bytes[at..at + key.len()].copy_from_slice(lower);
    fs::write(&path, &bytes).unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("its keys are not in order"));
}

#[test]
fn a_tree_that_leads_back_to_itself_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write(&path, &Content::from([("b".to_owned(), numbered(2000, 50))]));
    let mut bytes = fs::read(&path).unwrap();
    let is_branch = |page: &&[u8]| format::Header::decode(page).unwrap().flags == format::Kind::Branch.flag();
    let branch = bytes.chunks(PAGE).position(|page| is_branch(&page)).unwrap();
    let child = branch * PAGE + format::HEADER_BYTES + 8;
    bytes[child..child + 8].copy_from_slice(&u64::try_from(branch).unwrap().to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("its tree is too deep"));
}

/// Data pages have no checksums, so a damaged value may pass; nothing may panic, hang or take memory without bound.
#[test]
fn damaged_files_never_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let mut content = shapes();
    content.insert("tall".to_owned(), numbered(1000, 20));
    write(&path, &content);
    let whole = fs::read(&path).unwrap();
    let pages = whole.len() / PAGE;
    let mut refused = 0;
    for seed in 0..DAMAGED_FILES {
        let mut random = SmallRng::seed_from_u64(seed);
        let file = File::options().write(true).open(&path).unwrap();
        // Most of the structure is at the beginning of a page.
        let page = usize::try_from(seed).unwrap() % pages;
        let mut undo = Vec::new();
        for _ in 0..random.random_range(1..4) {
            let below = if random.random() { 64 } else { PAGE };
            let at = page * PAGE + random.random_range(0..below);
            let value: u8 = if random.random() { random.random() } else { 0xff };
            std::os::unix::fs::FileExt::write_all_at(&file, &[value], u64::try_from(at).unwrap()).unwrap();
            undo.push(at);
        }
        refused += usize::from(read(&path).is_err());
        for at in undo {
            std::os::unix::fs::FileExt::write_all_at(&file, &[whole[at]], u64::try_from(at).unwrap())
                .unwrap();
        }
    }
    assert!(refused > 200, "{refused} files were refused");
}
