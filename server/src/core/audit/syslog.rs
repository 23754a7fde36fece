//! The `syslog` device: one message (RFC 3164, as local syslog daemons take it) for each line, to the daemon's
//! socket on this machine.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use obol_mount::{Error, Result};
use time::OffsetDateTime;
use time::macros::format_description;

use super::options::check_known;

/// Where daemons listen.
const PLACES: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
const INFORMATIONAL: u8 = 6;
const TIMEOUT: Duration = Duration::from_secs(2);

const FACILITIES: [&str; 24] = [
    "KERN",
    "USER",
    "MAIL",
    "DAEMON",
    "AUTH",
    "SYSLOG",
    "LPR",
    "NEWS",
    "UUCP",
    "CRON",
    "AUTHPRIV",
    "FTP",
    "NTP",
    "SECURITY",
    "CONSOLE",
    "SOLARIS-CRON",
    "LOCAL0",
    "LOCAL1",
    "LOCAL2",
    "LOCAL3",
    "LOCAL4",
    "LOCAL5",
    "LOCAL6",
    "LOCAL7",
];

pub(super) struct Syslog {
    places: Vec<PathBuf>,
    priority: u8,
    tag: String,
    connection: Option<Connection>,
}

enum Connection {
    Datagrams(UnixDatagram),
    Stream(UnixStream),
}

impl Syslog {
    pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Self> {
        check_known("syslog", options, &["facility", "tag"])?;
        let facility = options.get("facility").map_or("AUTH", String::as_str);
        let number = FACILITIES
            .iter()
            .position(|name| name.eq_ignore_ascii_case(facility))
            .and_then(|number| u8::try_from(number).ok())
            .ok_or_else(|| {
                Error::bad_request("facility must be one of syslog's, such as AUTH or LOCAL0")
            })?;
        let tag = options.get("tag").map_or("obol", String::as_str);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        if tag.is_empty() || tag.len() > 32 || !tag.bytes().all(plain) {
            return Err(Error::bad_request(
                "tag may have 32 letters, digits and . _ - /",
            ));
        }
        Ok(Self {
            places: PLACES.map(PathBuf::from).to_vec(),
            priority: number * 8 + INFORMATIONAL,
            tag: tag.to_owned(),
            connection: None,
        })
    }

    /// Sends one line; a daemon that was restarted is connected to anew.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let message = self.message(line.trim_ascii_end())?;
        if let Some(connection) = &mut self.connection
            && connection.send(&message).is_ok()
        {
            return Ok(());
        }
        self.connection = None;
        let mut connection = self.connect()?;
        connection.send(&message)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Whether there is a daemon.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        self.connection = Some(self.connect()?);
        Ok(())
    }

    fn message(&self, line: &[u8]) -> io::Result<Vec<u8>> {
        let time = OffsetDateTime::now_utc()
            .format(format_description!(
                "[month repr:short] [day padding:space] [hour]:[minute]:[second]"
            ))
            .map_err(io::Error::other)?;
        let (priority, tag, pid) = (self.priority, &self.tag, std::process::id());
        let mut message = format!("<{priority}>{time} {tag}[{pid}]: ").into_bytes();
        message.extend_from_slice(line);
        Ok(message)
    }

    fn connect(&self) -> io::Result<Connection> {
        let mut last = io::Error::new(
            io::ErrorKind::NotFound,
            "no syslog daemon listens on this machine",
        );
        for place in &self.places {
            match Connection::open(place) {
                Ok(connection) => return Ok(connection),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Connection {
    fn open(place: &Path) -> io::Result<Self> {
        let datagrams = UnixDatagram::unbound()?;
        match datagrams.connect(place) {
            Ok(()) => {
                datagrams.set_write_timeout(Some(TIMEOUT))?;
                Ok(Self::Datagrams(datagrams))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
            Err(_) => {
                let stream = UnixStream::connect(place)?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Self::Stream(stream))
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            // A daemon takes a datagram whole or not at all: what is too long fails, and is not cut off.
            Self::Datagrams(socket) => socket.send(message).map(drop),
            // On a stream a message ends with a NUL.
            Self::Stream(stream) => stream.write_all(&[message, b"\0"].concat()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn syslog(place: &Path, options: &[(&str, &str)]) -> Syslog {
        let options = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Syslog {
            places: vec![place.to_owned()],
            ..Syslog::read(&options).unwrap()
        }
    }

    #[test]
    fn a_daemon_gets_one_message_a_line_and_may_be_restarted() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("log");
        let mut device = syslog(&place, &[("facility", "local0"), ("tag", "secrets")]);
        assert!(device.write(b"{}\n").is_err());
        let mut received = [0; 256];
        for _ in 0..2 {
            let daemon = UnixDatagram::bind(&place).unwrap();
            device.write(b"{\"type\":\"request\"}\n").unwrap();
            let length = daemon.recv(&mut received).unwrap();
            let text = String::from_utf8_lossy(&received[..length]);
            // LOCAL0 is 16; 16 * 8 + 6.
            assert!(text.starts_with("<134>"), "{text}");
            let expected = format!(" secrets[{}]: {{\"type\":\"request\"}}", std::process::id());
            assert!(text.ends_with(&expected), "{text}");
            drop(daemon);
            std::fs::remove_file(&place).unwrap();
        }
        assert!(device.write(b"{}\n").is_err());
    }

    #[test]
    fn options_that_a_syslog_does_not_have_are_refused() {
        for (name, value) in [
            ("facility", "LOCAL9"),
            ("tag", ""),
            ("tag", "a b"),
            ("file_path", "/x"),
        ] {
            let options = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert!(Syslog::read(&options).is_err(), "{name}={value}");
        }
    }
}
