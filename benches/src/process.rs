//! The processes that are measured: started here, and gone when their handle is.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;
use crate::load::{Connection, request};

/// A server under measurement.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// From the start of the process to its first answer.
    pub(crate) first_answer: Duration,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program beside this one.
fn beside(name: &str) -> Result<PathBuf, Failure> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("there is no {}: run `make bench`", path.display()).into())
    }
}

impl Server {
    /// Starts `obol server` on RocksDB in `data`.
    pub(crate) async fn start(data: &Path) -> Result<Self, Failure> {
        Self::start_in(&[], data).await
    }

    /// The same with more variables in its environment: where libkrb5 finds its realm.
    pub(crate) async fn start_in(env: &[(String, String)], data: &Path) -> Result<Self, Failure> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let config = data.join("obol.hcl");
        std::fs::write(
            &config,
            format!(
                "storage \"rocksdb\" {{\n  path = {:?}\n}}\nlistener \"tcp\" {{\n  address     = \"127.0.0.1:{port}\"\n  tls_disable = true\n}}\nlog_level    = \"error\"\ndisable_mlock = true\n",
                data.join("db").display().to_string()
            ),
        )?;
        let started = Instant::now();
        let child = Command::new(beside("obol")?)
            .arg("server")
            .arg("-config")
            .arg(&config)
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .spawn()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Self {
            child,
            address,
            first_answer: Duration::ZERO,
        };
        let health = request("GET", "/v1/sys/seal-status", "", None);
        loop {
            if let Ok(mut connection) = Connection::open(address).await
                && connection.call(&health).await.is_ok()
            {
                break;
            }
            if started.elapsed() > Duration::from_secs(60) || server.child.try_wait()?.is_some() {
                return Err("obol did not start".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.first_answer = started.elapsed();
        Ok(server)
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let body = body.map(|body| body.to_string());
        let mut connection = Connection::open(self.address).await?;
        let (status, answer) = connection
            .call(&request(method, path, token, body.as_deref()))
            .await?;
        if !(200..300).contains(&status) {
            return Err(format!(
                "{method} {path}: {status} {}",
                String::from_utf8_lossy(&answer)
            )
            .into());
        }
        Ok(if answer.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&answer)?
        })
    }

    /// Initializes and unseals; returns the root token and the unseal key.
    pub(crate) async fn set_up(&self) -> Result<(String, String), Failure> {
        let init = self
            .call(
                "PUT",
                "/v1/sys/init",
                "",
                Some(json!({ "secret_shares": 1, "secret_threshold": 1 })),
            )
            .await?;
        let key = init["keys"][0].as_str().ok_or("no key")?.to_owned();
        let token = init["root_token"].as_str().ok_or("no token")?.to_owned();
        self.unseal(&key).await?;
        self.call(
            "POST",
            "/v1/sys/mounts/secret",
            &token,
            Some(json!({ "type": "kv", "options": { "version": "2" } })),
        )
        .await?;
        Ok((token, key))
    }

    pub(crate) async fn unseal(&self, key: &str) -> Result<(), Failure> {
        self.call("PUT", "/v1/sys/unseal", "", Some(json!({ "key": key })))
            .await
            .map(drop)
    }

    /// Bytes that the process has had written to a disk.
    pub(crate) fn written(&self) -> Result<u64, Failure> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let written = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(written.ok_or("no write_bytes")?.parse()?)
    }

    /// Resident memory in MiB.
    pub(crate) fn resident(&self) -> Result<f64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .ok_or("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?;
        Ok(kib / 1024.0)
    }
}
