//! Moving a mount to another path. Its data lies under its UUID and stays where it is; what it has handed out (tokens,
//! leases) carries the old path and ends.

use std::sync::Arc;

use obol_mount::{Error, Family, Result};

use super::{Mounted, Mounts, check_free, in_use, no_mount, overlaps};

impl Mounts {
    /// The first half: checks both paths and takes the mount out of service. The table still has it at its old path,
    /// so a crash leaves it there.
    pub async fn begin_move(&self, from: &str, to: &str) -> Result<Arc<Mounted>> {
        if from.starts_with("auth/") != to.starts_with("auth/") {
            return Err(Error::bad_request(
                "a mount cannot be moved between auth methods and secrets engines",
            ));
        }
        if from == to {
            return Err(Error::bad_request(
                "field \"to\": expected another path than \"from\"",
            ));
        }
        let _changing = self.changing.lock().await;
        let mounted = self.get(from).ok_or_else(|| no_mount(from))?;
        if self.fixed.iter().any(|fixed| fixed.entry.path == from)
            || ["cubbyhole", "identity"].contains(&mounted.entry.kind.as_str())
        {
            return Err(Error::bad_request(format!(
                "{from:?} belongs to the server and cannot be moved"
            )));
        }
        let mut others = super::Router::clone(&self.router.load());
        others.remove(from);
        check_free(to, &others)?;
        self.replace(|router| drop(router.remove(from)));
        Ok(mounted)
    }

    /// The second half: stores the new path and serves there.
    pub async fn finish_move(&self, mounted: &Mounted, to: &str) -> Result<()> {
        let _changing = self.changing.lock().await;
        check_free(to, &self.router.load())?;
        let uuid = mounted.entry.uuid.as_str();
        self.change_table(|table| {
            let others = table.mounts.iter().filter(|m| m.uuid != uuid);
            if others.into_iter().any(|m| overlaps(&m.path, to)) {
                return Err(in_use(to));
            }
            let own = table.mounts.iter_mut().find(|m| m.uuid == uuid);
            own.ok_or_else(|| no_mount(&mounted.entry.path))?.path = to.to_owned();
            Ok(())
        })
        .await?;
        let mut entry = mounted.entry.clone();
        entry.path = to.to_owned();
        let moved = Mounted {
            entry,
            path: to.into(),
            backend: mounted.backend.clone(),
            routes: mounted.routes.clone(),
            timings: mounted.timings.clone(),
        };
        self.replace(|router| drop(router.insert(to.to_owned(), Arc::new(moved))));
        Ok(())
    }

    /// Instead of the second half: serves at the old path again.
    pub async fn abandon_move(&self, mounted: Arc<Mounted>) {
        let _changing = self.changing.lock().await;
        let path = mounted.entry.path.clone();
        self.replace(|router| drop(router.insert(path, mounted)));
    }
}

/// The path in the table of a mount that a client names with its family: `secret`, `auth/kerberos/`.
pub fn parse_table_path(text: &str) -> Result<(Family, String)> {
    let path = super::parse_mount_path(text)?;
    let family = match path.split_once('/') {
        Some(("auth", _)) => Family::Auth,
        _ if path == "auth" => {
            return Err(Error::bad_request("an auth method lies below auth/"));
        }
        _ => Family::Secrets,
    };
    Ok((family, format!("{path}/")))
}
