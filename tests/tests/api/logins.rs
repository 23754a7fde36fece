//! What the tests of logins have in common: one server for all that keep to mounts and names of their own.

use std::sync::OnceLock;

use obol_tests::{Client, Server, ServerOptions};
use serde_json::{Value, json};

pub(super) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::ready(ServerOptions::default()))
}

pub(super) fn root() -> Client {
    server().root()
}

/// A mount of a method; its path below `auth/`.
pub(super) fn mount(root: &Client, path: &str, kind: &str) -> Mount {
    root.post(&format!("sys/auth/{path}"), json!({ "type": kind }))
        .expect(204);
    Mount {
        root: root.clone(),
        path: format!("auth/{path}"),
    }
}

/// A mount and who may write to it.
pub(super) struct Mount {
    pub(super) root: Client,
    pub(super) path: String,
}

impl Mount {
    /// The path of something in the mount.
    pub(super) fn at(&self, below: &str) -> String {
        format!("{}/{below}", self.path)
    }

    /// The mount's accessor.
    pub(super) fn accessor(&self) -> String {
        let data = self.root.get(&format!("sys/{}", self.path)).data();
        data["accessor"].as_str().unwrap().to_owned()
    }

    pub(super) fn tune(&self, body: Value) -> obol_tests::Reply {
        self.root.post(&format!("sys/{}/tune", self.path), body)
    }
}
