//! A provisioned and filled domain, made once for each realm and version of Samba, kept in the
//! user's cache directory and copied for each domain controller: seconds become milliseconds.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use std::{env, io};

use super::conf::{self, SmbConf};
use super::people::ADMINISTRATOR;
use super::seed::seed;
use crate::daemon::guarded;
use crate::error::{Doing, Error, Result, run, write};
use crate::programs::{LDBMODIFY, SAMBA, SAMBA_TOOL};

/// Where domains are kept by default: below `$XDG_CACHE_HOME` or `$HOME/.cache`.
pub(super) fn default_cache() -> Option<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("obol/testbed"))
}

/// Puts a filled domain into `dir`, which must not exist: from the cache, or new into the cache.
/// Where there is no cache to write to, it is made for this once.
pub(super) fn domain(
    dir: &Path,
    realm: &str,
    cache: Option<&Path>,
    progress: &dyn Fn(&str),
) -> Result<()> {
    let Some((cache, lock)) = cache.and_then(|cache| Some((cache, lock(cache, realm)?))) else {
        return provision(dir, realm, progress);
    };
    let template = cache.join(key(realm)?);
    if !template.exists() {
        remove_old(cache);
        // Held by the lock: whoever made this was killed in the middle.
        let draft = cache.join(format!("{realm}.part"));
        remove(&draft)?;
        provision(&draft, realm, progress)?;
        fs::rename(&draft, &template).doing(|| format!("naming {}", template.display()))?;
    }
    // Says to `remove_old` that it is in use.
    File::open(&template)
        .and_then(|file| file.set_modified(SystemTime::now()))
        .ok();
    copy(&template, dir).doing(|| format!("copying {}", template.display()))?;
    drop(lock);
    Ok(())
}

/// One process at a time for each realm; nothing when the cache cannot be written to.
fn lock(cache: &Path, realm: &str) -> Option<File> {
    fs::create_dir_all(cache).ok()?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(cache.join(format!("{realm}.lock")))
        .ok()?;
    lock.lock().ok()?;
    Some(lock)
}

/// Another for each realm, installation of Samba, and contents.
fn key(realm: &str) -> Result<String> {
    // An upgrade replaces the program. Asking it for its version takes longer than the copy.
    let program = SAMBA.find()?;
    let installed = fs::metadata(&program)
        .and_then(|meta| Ok((meta.len(), meta.modified()?)))
        .doing(|| format!("looking at {}", program.display()))?;
    let mut hasher = DefaultHasher::new();
    (installed, seed(realm), REVISION).hash(&mut hasher);
    Ok(format!("{realm}.{:016x}", hasher.finish()))
}

/// Removes what nobody has copied for a long time, such as a domain of an older Samba. Two
/// checkouts with different contents keep theirs side by side.
fn remove_old(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let old = entry.metadata().is_ok_and(|meta| {
            meta.is_dir()
                && meta
                    .modified()
                    .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > KEEP))
        });
        if old {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .doing(|| format!("removing {}", dir.display()))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, from.metadata()?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A new domain with everybody of [`super::people`] in it.
fn provision(dir: &Path, realm: &str, progress: &dyn Fn(&str)) -> Result<()> {
    fs::create_dir(dir).doing(|| format!("making {}", dir.display()))?;
    // Instead of /etc/samba/smb.conf, whatever that says.
    let none = dir.join("none.conf");
    write(&none, "[global]\n")?;
    let posix_attributes = dir.join("eadb.tdb");
    let mut tool = Command::new(SAMBA_TOOL.find()?);
    tool.args(["domain", "provision"])
        .arg(format!("--configfile={}", none.display()))
        .arg(format!("--targetdir={}", dir.display()))
        .arg(format!("--realm={realm}"))
        .arg(format!("--domain={}", conf::netbios_domain(realm)))
        .arg(format!("--host-name={}", conf::HOST))
        .arg(format!("--adminpass={}", ADMINISTRATOR.1))
        .args(["--server-role=dc", "--dns-backend=NONE"])
        // Neither is kept: addresses come with each start.
        .args(["--host-ip=127.0.0.1", "--option=interfaces=lo"])
        // Windows' access rights in a file instead of extended attributes, which not every file
        // system has.
        .arg("--option=vfs objects=")
        .arg(format!(
            "--option=posix:eadb={}",
            posix_attributes.display()
        ))
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    run_with_progress(&mut guarded(&tool)?, progress)?;

    progress("Adding users and groups");
    let smb_conf = dir.join("smb.conf");
    write(&smb_conf, SmbConf::offline(dir, realm).text())?;
    let mut ldbmodify = Command::new(LDBMODIFY.find()?);
    ldbmodify
        .arg("-H")
        .arg(conf::database(dir))
        .arg(format!("--configfile={}", smb_conf.display()))
        .current_dir("/");
    run(&mut guarded(&ldbmodify)?, seed(realm).as_bytes())?;
    for file in [&none, &smb_conf, &posix_attributes] {
        fs::remove_file(file).doing(|| format!("removing {}", file.display()))?;
    }
    Ok(())
}

/// Passes on what samba-tool says it does: `INFO ... #2301: Setting up SAM db`.
fn run_with_progress(command: &mut Command, progress: &dyn Fn(&str)) -> Result<()> {
    let what = || "running samba-tool domain provision".to_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .doing(what)?;
    let stderr = child.stderr.take().expect("stderr was asked to be a pipe");
    let mut said = String::new();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.doing(what)?;
        let line = String::from_utf8_lossy(&line);
        said.push_str(&line);
        said.push('\n');
        let step = line
            .starts_with("INFO")
            .then(|| line.split_once(": "))
            .flatten();
        if let Some((_, step)) = step.filter(|(_, step)| step.starts_with("Setting up ")) {
            progress(step);
        }
    }
    let status = child.wait().doing(what)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: "samba-tool domain provision".to_owned(),
        status: status.to_string(),
        output: said,
    })
}

/// To be raised when a domain is provisioned in another way.
const REVISION: u32 = 1;
const KEEP: Duration = Duration::from_secs(14 * 24 * 3600);
