//! `kv`: the key-value engine, whose version 2 has its API below `data/`, `metadata/` and so on. Which version a
//! mount is, and where the mount ends in a path, is asked from the server first, as Vault's command line does.

pub(super) mod changes;
pub(super) mod data;
pub(super) mod metadata;
pub(super) mod versions;

use serde_json::Value;

use super::client::{Client, Request};
use super::failure::Failure;
use super::logical::sanitised;

// Flattened into commands; a doc comment here would replace the command's own.
#[derive(clap::Args)]
struct Place {
    /// Path of the secret: MOUNT/PATH, or PATH alone with -mount
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    mount: MountFlag,
}

#[derive(clap::Args)]
struct MountFlag {
    /// Where the engine is mounted. Without it, the mount is the beginning of PATH
    #[arg(long, value_name = "MOUNT")]
    mount: Option<String>,
}

/// A secret's mount and its path below that.
#[derive(Debug, PartialEq)]
struct Located {
    /// With a slash at its end.
    mount: String,
    /// Without the mount and without slashes around it.
    path: String,
    v2: bool,
}

impl Located {
    fn find(client: &Client, mount: Option<&str>, path: &str) -> Result<Self, Failure> {
        let path = sanitised(path);
        let asked = mount.map_or(path, sanitised);
        if asked.is_empty() {
            return Err(Failure::local("the path is empty"));
        }
        let answer = match client
            .send(Request::get(format!("sys/internal/ui/mounts/{asked}")).internal())
        {
            Ok(answer) => answer,
            // A server without this path has version 1 alone.
            Err(failure) if failure.status() == Some(404) => return Ok(Self::v1(mount, path)),
            Err(failure) if failure.status() == Some(403) => {
                return Err(failure.doing(format!("asking which engine is mounted at {asked}")).hint(
                    "Nothing of kv is mounted there, or the token may see nothing below it. A policy for version 2 \
                     names MOUNT/data/PATH and MOUNT/metadata/PATH.",
                ));
            }
            Err(failure) => {
                return Err(failure.doing(format!("asking which engine is mounted at {asked}")));
            }
        };
        let data = answer.data();
        let found = data
            .get("path")
            .and_then(Value::as_str)
            .map(sanitised)
            .unwrap_or_default();
        let version = &data.get("options").cloned().unwrap_or_default()["version"];
        let v2 = version.as_str() == Some("2") || version.as_u64() == Some(2);
        if found.is_empty() {
            return Ok(Self::v1(mount, path));
        }
        let below = match mount {
            Some(_) => path,
            None if path == found => "",
            None => path
                .strip_prefix(found)
                .and_then(|rest| rest.strip_prefix('/'))
                .unwrap_or(path),
        };
        Ok(Self {
            mount: format!("{found}/"),
            path: sanitised(below).to_owned(),
            v2,
        })
    }

    fn v1(mount: Option<&str>, path: &str) -> Self {
        let mount = mount
            .map(|mount| format!("{}/", sanitised(mount)))
            .unwrap_or_default();
        Self {
            mount,
            path: path.to_owned(),
            v2: false,
        }
    }

    /// The path in the API: below `section` for version 2, as it is for version 1.
    fn api_path(&self, section: &str) -> String {
        let whole = match self.v2 {
            true => format!("{}{section}/{}", self.mount, self.path),
            false => format!("{}{}", self.mount, self.path),
        };
        whole.trim_end_matches('/').to_owned()
    }

    fn only_v2(&self, what: &str) -> Result<(), Failure> {
        match self.v2 {
            true => Ok(()),
            false => Err(Failure::local(format!(
                "{what} needs version 2 of the kv engine; {} is version 1",
                self.mount
            ))),
        }
    }
}

/// `1,2` and `-versions=1 -versions=2` alike.
fn version_numbers(flag: &[String]) -> Result<Vec<u64>, Failure> {
    flag.iter()
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .map(|value| {
            value
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| Failure::local("-versions takes numbers: -versions=1,2"))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_version_2_gets_its_section_behind_the_mount() {
        let at = |path: &str| Located {
            mount: "team/kv/".into(),
            path: path.into(),
            v2: true,
        };
        assert_eq!(at("app/db").api_path("data"), "team/kv/data/app/db");
        assert_eq!(at("").api_path("metadata"), "team/kv/metadata");
        // A secret may itself be called "data".
        assert_eq!(at("data/x").api_path("data"), "team/kv/data/data/x");
    }

    #[test]
    fn a_path_of_version_1_stays_as_it_is() {
        assert_eq!(Located::v1(None, "kv/app").api_path("data"), "kv/app");
        assert_eq!(Located::v1(Some("kv"), "app").api_path("data"), "kv/app");
    }

    #[test]
    fn versions_are_numbers_from_one() {
        let numbers = |list: &[&str]| {
            version_numbers(&list.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(numbers(&["1,2", "5"]).unwrap(), [1, 2, 5]);
        assert!(numbers(&["0"]).is_err());
        assert!(numbers(&["x"]).is_err());
    }
}
