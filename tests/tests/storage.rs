//! The disk under a server fails it: damaged, missing or foreign data is an error with a reason, never a panic and
//! never other data.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "rocksdb")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use obol_tests::{Server, ServerOptions};
use serde_json::{Value, json};

fn with_secrets() -> Server {
    let server = Server::ready(ServerOptions::on_disk());
    let root = server.root();
    let kv = json!({"type": "kv", "options": {"version": "2"}});
    root.post("sys/mounts/secret", kv).expect(204);
    for n in 0..50 {
        root.post(
            &format!("secret/data/{n}"),
            json!({"data": {"n": n, "text": "readable if in the clear"}}),
        )
        .expect(200);
    }
    server
}

/// Files of RocksDB that hold data: the log of writes, and tables once there are any.
fn data_files(server: &Server) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(&server.data_dir(), &mut files);
    files.retain(|f| {
        f.extension().is_some_and(|e| e == "log" || e == "sst") && f.metadata().unwrap().len() > 0
    });
    files.sort();
    files
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => collect(&path, files),
            path => files.push(path),
        }
    }
}

#[test]
fn what_rests_on_disk_is_unreadable() {
    let server = with_secrets();
    let token = server.root().token().to_owned();
    let keys = server.keys().shares;
    server.kill();
    let files = data_files(&server);
    assert!(!files.is_empty());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for hidden in [
            "readable if in the clear",
            token.as_str(),
            keys[0].as_str(),
            "capabilities",
        ] {
            let found = bytes.windows(hidden.len()).any(|w| w == hidden.as_bytes());
            assert!(!found, "{hidden:?} is in {}", file.display());
        }
    }
    // Nobody but the owner reads it.
    let mode = fs::metadata(server.data_dir())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[test]
fn damaged_data_is_an_error_and_never_other_data() {
    let server = with_secrets();
    // Flushed into tables at the end, so that not only the log of writes is tried.
    assert!(server.terminate().success());
    let pristine = server.dir().join("pristine");
    copy(&server.data_dir(), &pristine);
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 0xff;
        },
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| {
            let (at, count) = (bytes.len() / 3, 64.min(bytes.len() / 4));
            bytes[at..at + count].fill(0);
        },
        |bytes| bytes.clear(),
    ];
    for damage in damages {
        fs::remove_dir_all(server.data_dir()).unwrap();
        copy(&pristine, &server.data_dir());
        let mut files = data_files(&server);
        files.sort_by_key(|f| std::cmp::Reverse(f.metadata().unwrap().len()));
        let mut bytes = fs::read(&files[0]).unwrap();
        damage(&mut bytes);
        fs::write(&files[0], bytes).unwrap();
        look_around(&server);
    }
}

/// Starts the server on whatever is there. It refuses to start, or it serves right data and errors.
fn look_around(server: &Server) {
    let from = server.log().len();
    server.start_or_end();
    if server.is_running() {
        let client = server.client();
        let status = client.get("sys/seal-status");
        if status.status == 200 && status.json()["initialized"] == Value::Bool(true) {
            let reply = client.put("sys/unseal", json!({"key": server.keys().shares[0]}));
            if reply.status == 200 && reply.json()["sealed"] == Value::Bool(false) {
                for n in 0..50 {
                    let reply = server.root().get(&format!("secret/data/{n}"));
                    match reply.status {
                        200 => assert_eq!(reply.json()["data"]["data"]["n"], n),
                        403 | 404 | 500 | 503 => {}
                        other => panic!("{other}: {}", reply.text()),
                    }
                }
            }
        }
        server.kill();
    }
    let log = server.log()[from..].to_owned();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_directory_that_cannot_be_used_is_named_when_the_server_starts() {
    let server = Server::prepare(ServerOptions::on_disk());
    fs::write(server.data_dir(), "a file where a directory should be").unwrap();
    assert!(!server.start_in_vain().success());
    let log = server.log();
    assert!(log.contains("data") && !log.contains("panicked"), "{log}");
    fs::remove_file(server.data_dir()).unwrap();
    server.start_again();
}

#[test]
fn two_servers_cannot_share_a_directory() {
    let first = Server::ready(ServerOptions::on_disk());
    let second = Server::prepare(ServerOptions::on_disk());
    std::os::unix::fs::symlink(first.data_dir(), second.data_dir()).unwrap();
    assert!(!second.start_in_vain().success());
    let log = second.log();
    assert!(
        log.to_lowercase().contains("lock") || log.contains("in use"),
        "{log}"
    );
    assert!(!log.contains("panicked"), "{log}");
    first.root().get("sys/mounts").expect(200);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
